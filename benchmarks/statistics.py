"""What may be said of measured latencies, and from how many queries on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, median

import numpy as np

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
CONFIDENCE = 0.99
_INTERVAL = 0.95
_RESAMPLES = 10_000
_SEED = 0


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


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of the median of ``values``, wide enough for few of them.

    The percentile bootstrap is too narrow for few values; this is Hesterberg's expanded percentile interval ("What
    Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 4): its quantiles are those
    at which the normal distribution is as far out as Student's, times sqrt(n / (n - 1)). One value bounds nothing.
    """
    n = len(values)
    if n < 2:
        return 0.0, math.inf
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * student_quantile((1 + _INTERVAL) / 2, n - 1))
    draws = np.random.default_rng(_SEED).choice(np.asarray(values, np.float64), (_RESAMPLES, n))
    found = np.sort(np.median(draws, axis=1))
    low = int(tail * _RESAMPLES)
    return float(found[low]), float(found[_RESAMPLES - 1 - low])


def student_quantile(p: float, freedom: int) -> float:
    """Return the quantile at ``p`` above 1/2 of Student's distribution with ``freedom`` degrees of freedom.

    Bisection of its distribution function in closed form (Abramowitz and Stegun, Handbook of Mathematical Functions,
    26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _student_cdf(high, freedom) < p:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def _student_cdf(t: float, freedom: int) -> float:
    theta = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(theta), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= cosine**2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    within = 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return (1 + within) / 2
