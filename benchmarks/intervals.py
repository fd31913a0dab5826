"""How far a ratio of times may be off: by what rounds differ, and by what sessions that are made anew do.

Rounds of one session are alike: where its memory lies, which kernels a library chose, are drawn once. Of several
sessions an interval is therefore at least Student's of theirs, the second of the two levels of T. Kalibera and R. Jones
("Rigorous Benchmarking in Reasonable Time", ISMM 2013): that of the mean of the logarithms of the sessions' medians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, median

import numpy as np

from .statistics import median_interval, student_quantile

_LEVEL = 0.975  # of either end of a 95 % interval
_RESAMPLES = 10_000
_SEED = 0

Interval = tuple[float, float]


def paired_interval(ratios: Sequence[float], builds: Sequence[int] = ()) -> Interval:
    """Return the 95 % interval of the median of ``ratios``, above 0, one of each round; that of one round is itself.

    ``builds`` says which session each round ran in; nothing: all in one.
    """
    rounds = median_interval(ratios) if len(ratios) > 1 else (ratios[0], ratios[0])
    return _joined(rounds, sessions_interval((ratios, builds)))


def ratio_interval(
    old: Sequence[float], new: Sequence[float], builds: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> tuple[float | None, float | None, float | None]:
    """Return the ratio of the medians, new / old, and its 95 % interval.

    Each side's rounds are drawn anew for themselves; the interval is widened for few of them as
    ``statistics.median_interval`` is, by the smaller side's number.

    Args:
        old: what each round took before; infinity where it took for ever.
        new: what each round took after.
        builds: which session each round ran in, before and after; nothing: all in one.

    Returns:
        Nothing three times where a time is 0, one of the old is infinite, or a ratio has no number; infinity where the
        new median alone has.
    """
    n = min(len(old), len(new))
    if n < 2 or not all(0 < each < math.inf for each in old):
        return None, None, None
    if math.isinf(median(new)):
        return math.inf, math.inf, math.inf
    if not all(0 < each < math.inf for each in new):
        return None, None, None
    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * student_quantile(_LEVEL, n - 1))
    random = np.random.default_rng(_SEED)
    before, after = (
        np.median(random.choice(np.asarray(times, np.float64), (_RESAMPLES, len(times))), axis=1)
        for times in (old, new)
    )
    with np.errstate(over="ignore"):
        found = np.sort(after / before)
    cut = int(tail * _RESAMPLES)
    rounds = float(found[cut]), float(found[_RESAMPLES - 1 - cut])
    sessions = sessions_interval((new, builds[1]), (old, builds[0]))
    told = median(new) / median(old), *_joined(rounds, sessions)
    return told if all(map(math.isfinite, told)) else (None, None, None)


def sessions_interval(*sides: tuple[Sequence[float], Sequence[int]]) -> Interval | None:
    """Return Student's 95 % interval of a ratio by what its sessions differ; ``None`` where no side has two.

    Args:
        sides: figures of rounds, above 0, and which session each ran in: of the ratio itself, or of what stands above
            and below its line. Their variances add up (B. L. Welch, Biometrika 34 (1947)), with the fewer sessions'
            degrees of freedom, for caution. A side of one session differs from others of its kind as the other side's
            do, as far as anybody knows.
    """
    logs = [np.log(_session_medians(figures, builds)) for figures, builds in sides]
    known = [side for side in logs if len(side) > 1]
    if not known:
        return None
    variances = [(side if len(side) > 1 else known[0]).var(ddof=1) / len(side) for side in logs]
    centre = logs[0].mean() - sum(side.mean() for side in logs[1:])
    reach = student_quantile(_LEVEL, min(map(len, known)) - 1) * math.sqrt(sum(variances))
    with np.errstate(over="ignore"):
        low, high = np.exp([centre - reach, centre + reach])
    return float(low), float(high)


def _session_medians(figures: Sequence[float], builds: Sequence[int]) -> list[float]:
    found: dict[int, list[float]] = {}
    for build, figure in zip(builds or [0] * len(figures), figures, strict=False):
        found.setdefault(build, []).append(figure)
    return [median(each) for each in found.values()]


def _joined(rounds: Interval, sessions: Interval | None) -> Interval:
    return rounds if sessions is None else (min(rounds[0], sessions[0]), max(rounds[1], sessions[1]))
