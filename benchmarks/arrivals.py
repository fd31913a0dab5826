"""The scenario ``server``: queries arrive by themselves, and each waits for those before it.

MLPerf's LoadGen: arrivals are a Poisson process; the latency of a query counts from its *scheduled* arrival, so that a
stall is charged to all that arrived meanwhile, which a loop that waits for each answer would never notice (coordinated
omission, Gil Tene); the result is the highest rate at which the 99th percentile holds a bound. As in LoadGen's
FindPeakPerformance, the rate doubles until the bound breaks, then the interval is halved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .measured import Served, Trial
from .statistics import percentile, queries_needed

PERCENTILE = 0.99
_PRECISION = 0.02  # of the rate, at which halving ends
_MOST_TRIALS = 16
_SPIN_NS = 200_000  # before an arrival it is waited for without sleeping, which would wake up late


@dataclass(frozen=True)
class Answered:
    """What became of the queries of one trial.

    Attributes:
        latencies_ns: from the scheduled arrival to the end, of each query that was run.
        wall_ns: from the first arrival to the last end.
    """

    latencies_ns: tuple[int, ...]
    wall_ns: int


def schedule(rate_qps: float, queries: int, seed: int) -> list[int]:
    """Return when each query arrives, in ns from the start.

    One seed gives the same gaps at every rate, longer or shorter: all contestants meet the same crowd.
    """
    gaps = np.random.default_rng(seed).exponential(1.0, queries)
    times: list[int] = (np.cumsum(gaps) / rate_qps * 1e9).astype(np.int64).tolist()
    return times


def serve(
    query: Callable[[], object],
    arrivals_ns: Sequence[int],
    bound_ns: int,
    clock: Callable[[], int],
    sleep: Callable[[float], None],
) -> Answered:
    """Run each query at its arrival, or as soon as those before it are done; give up once the bound is broken.

    Args:
        query: runs the next query.
        arrivals_ns: when each arrives, from the start.
        bound_ns: what the 99th percentile has to hold; with more queries beyond it than that allows, the rest is
            left out.
        clock: time in ns.
        sleep: waits for seconds.
    """
    allowed = len(arrivals_ns) - math.ceil(round(PERCENTILE * len(arrivals_ns), 9))
    latencies: list[int] = []
    over, begin, end = 0, clock(), 0
    for arrival in arrivals_ns:
        due = begin + arrival
        while (left := due - clock()) > 0:
            if left > _SPIN_NS:
                sleep((left - _SPIN_NS) / 1e9)
        query()
        end = clock()
        latencies.append(end - due)
        over += latencies[-1] > bound_ns
        if over > allowed:
            break
    return Answered(tuple(latencies), end - begin - arrivals_ns[0])


def trial(rate_qps: float, answered: Answered, bound_ms: float) -> Trial:
    """Return what one rate came to."""
    tail = percentile(sorted(answered.latencies_ns), PERCENTILE) / 1e6
    completed = len(answered.latencies_ns) / (answered.wall_ns / 1e9)
    return Trial(rate_qps, len(answered.latencies_ns), tail, tail <= bound_ms, completed)


def queries_of(rate_qps: float, seconds: float) -> int:
    """Return how many queries a trial has: enough for its percentile, and for ``seconds``."""
    return max(queries_needed(PERCENTILE), math.ceil(rate_qps * seconds))


def search(attempt: Callable[[float], Trial], start_qps: float) -> Served:
    """Return the highest rate that holds the bound, from ``start_qps`` on."""
    trials: list[Trial] = []
    held, broken = 0.0, math.inf
    rate = start_qps
    while len(trials) < _MOST_TRIALS and broken - held > _PRECISION * held:
        found = attempt(rate)
        trials.append(found)
        if found.held:
            held = max(held, rate)
        else:
            broken = min(broken, rate)
        rate = 2 * held if broken == math.inf else (held + broken) / 2
        if held == 0 and broken < start_qps / 2**6:  # not even with a nearly idle backend
            break
    return Served(held, tuple(trials))
