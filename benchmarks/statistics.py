"""What may be said of measured latencies, and from how many queries on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import median

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
CONFIDENCE = 0.99


def percentile(sorted_values: Sequence[float], p: float) -> float:
    """Return the nearest-rank percentile of ascending values: the ``ceil(p n)``-th, one really measured."""
    # The product is rounded first: 0.07 * 100 is 7.000000000000001, whose ceiling would be one rank too far.
    return sorted_values[max(0, math.ceil(round(p * len(sorted_values), 9)) - 1)]


@cache
def queries_needed(p: float, confidence: float = CONFIDENCE) -> int:
    """Return from how many queries on percentile ``p`` may be printed.

    It is the smallest n at which n queries with at most one above a bound show, at this confidence, that the share
    ``p`` of all queries lies within it: P(Binomial(n, 1 - p) <= 1) <= 1 - confidence. That is the early-stopping rule
    of MLPerf's LoadGen (``MinPassingQueriesFinder`` in loadgen/early_stopping.cc) for one query over the bound, written
    there with the incomplete beta function: 64 for p90, 130 for p95, 662 for p99, 6,636 for p99.9.
    """
    n = 2
    while p**n + n * (1 - p) * p ** (n - 1) > 1 - confidence:
        n += 1
    return n


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return those of ``PERCENTILES`` that ``values`` are numerous enough for."""
    ascending = sorted(values)
    return {name: percentile(ascending, p) for name, p in PERCENTILES.items() if len(ascending) >= queries_needed(p)}


def median_of_medians(rounds: Sequence[Sequence[float]]) -> float:
    """Return the median of the rounds' medians: one disturbed round does not move it."""
    return median(median(values) for values in rounds)
