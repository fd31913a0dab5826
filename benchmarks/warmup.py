"""When a backend has warmed up: the rule of Triton's perf_analyzer for steady latencies."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from .measured import Warmup

# `perf_analyzer --stability-percentage`: steady where the largest of the last three windows is within 10 % of the
# smallest (Perf Analyzer's manual, "Measurement Options").
WINDOWS = 3
STABILITY = 1.10
# A window is long enough for the scheduler's slices to be inside it, and holds enough queries for a median.
_WINDOW_NS = 10_000_000
_WINDOW_QUERIES = 5
RULE = (
    f"until the medians of {WINDOWS} windows in a row, each of {_WINDOW_NS // 10**6} ms and {_WINDOW_QUERIES} queries "
    f"at least, lie within {STABILITY - 1:.0%} of each other (perf_analyzer's --stability-percentage)"
)


def warm_up(query: Callable[[], object], clock: Callable[[], int], limit_s: float) -> tuple[Warmup, float]:
    """Call ``query`` until its times are steady, or for ``limit_s``; return how it went and its median time in ms.

    Args:
        query: runs one query.
        clock: time in ns.
        limit_s: when to give up; three windows are run all the same.
    """
    begin, medians, queries = clock(), list[float](), 0
    while True:
        times, start = list[int](), clock()
        before = start
        while before - start < _WINDOW_NS or len(times) < _WINDOW_QUERIES:
            query()
            now = clock()
            times.append(now - before)
            before = now
        queries += len(times)
        medians.append(median(times))
        last = medians[-WINDOWS:]
        enough = len(last) == WINDOWS
        stable = enough and max(last) <= STABILITY * min(last)
        if stable or (enough and before - begin >= limit_s * 1e9):
            return Warmup(queries, (before - begin) / 1e9, stable), medians[-1] / 1e6
