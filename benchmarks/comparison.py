"""Whether a later result is slower than an earlier one, row by row, and when that cannot be said.

The two were measured at different times, so their rounds are no pairs: each side is drawn anew by itself. The interval
holds by how much the rounds of a run differ, and the sessions where it made several; of a machine that was in another
state all the while it knows nothing.

* wrong: the answers are wrong, whatever time they take, and were not before; still wrong; mended.
* less accurate: more than ``MAX_DROP`` points are lost, and McNemar's p is below ``CHANCE`` at its largest.
* not judged: fewer than ``ROUNDS`` rounds on a side, rounds in which no rate was held, or a time beside a rate.
* slower, faster: the 95 % interval of the ratio lies above, or below, 1, and the ratio is beyond the threshold.
* unchanged: all of the interval is within the threshold.
* too noisy: none of these can be said.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from quillrt.compile.verify import MAX_DROP
from quillrt.runtime.errors import ConfigError, DataError

from .comparing import CHANCE, ROUNDS
from .comparison_accuracy import AccuracyChange, accuracy_change, same_images
from .intervals import ratio_interval
from .measured import Measured, Metric
from .results import Result, Row

THRESHOLD_PERCENT = 5.0
REGRESSIONS = ("slower", "wrong", "less accurate")
UNDECIDED = ("too noisy", "not judged")


@dataclass(frozen=True)
class Change:
    """One row in both results.

    Attributes:
        name: the row's.
        batch: images in a query.
        metric: what the times are made of: the scenario's figure by rounds.
        old: the figure before, the median of its rounds.
        new: the figure after.
        ratio: how many times as long it takes now, new / old of a time and old / new of a rate; ``None``: not to be
            told.
        low: lower end of the 95 % interval, see ``intervals``.
        high: its upper end.
        rounds: how many there are, before and after.
        accuracy: how it changed; ``None`` where the results do not tell, or tell it of other images.
        verdict: by the rule above.
        why: in a line.
    """

    name: str
    batch: int
    metric: str
    old: float
    new: float
    ratio: float | None
    low: float | None
    high: float | None
    rounds: tuple[int, int]
    accuracy: AccuracyChange | None
    verdict: str
    why: str

    @property
    def title(self) -> str:
        """The row's name and its batch size."""
        return f"{self.name}, batch {self.batch}"


@dataclass(frozen=True)
class Comparison:
    """Two results.

    Attributes:
        threshold_percent: what a row may be slower by.
        rows: that were measured in both.
        missing: what was measured before and is not now, with the reason.
        added: what was not measured before.
    """

    threshold_percent: float
    rows: tuple[Change, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def regressions(self) -> tuple[str, ...]:
        """The rows that became worse."""
        return tuple(row.title for row in self.rows if row.verdict in REGRESSIONS)

    @property
    def bounded(self) -> tuple[str, ...]:
        """Why McNemar's p is not known exactly, a line each."""
        return tuple(dict.fromkeys(row.accuracy.bounded for row in self.rows if row.accuracy and row.accuracy.bounded))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "regressions": list(self.regressions)}


def compare(old: Result, new: Result, threshold_percent: float = THRESHOLD_PERCENT) -> Comparison:
    """Compare the rows of two results, by name and batch size; peers' are none of ours.

    Raises:
        ConfigError: the threshold is not finite, or negative.
        DataError: nothing was measured before.
    """
    if not 0 <= threshold_percent < math.inf:
        raise ConfigError(f"expected a threshold of 0 % or more, found {threshold_percent}")
    before, after = ({(row.name, row.batch): row for row in each.rows if row.kind == "backend"} for each in (old, new))
    if not any(map(_ran, before.values())):
        raise DataError("expected an older result with rows that were measured, found none; measure again")
    same = same_images(old, new)
    rows = [
        _change(row, before[key], same=same, allowed=1 + threshold_percent / 100)
        for key, row in after.items()
        if row.measured and key in before and before[key].measured
    ]
    return Comparison(
        threshold_percent,
        tuple(rows),
        tuple(_missing(row, after.get(key)) for key, row in before.items() if _ran(row) and not _ran(after.get(key))),
        tuple(_title(row) for key, row in after.items() if _ran(row) and not _ran(before.get(key))),
    )


def _ran(row: Row | None) -> bool:
    return row is not None and row.measured is not None


def _title(row: Row) -> str:
    return f"{row.name}, batch {row.batch}"


def _missing(row: Row, now: Row | None) -> str:
    return f"{_title(row)}: {now.reason if now and now.reason else 'it takes no part any more'}"


def _change(row: Row, before: Row, *, same: bool | None, allowed: float) -> Change:
    new, old = row.measured, before.measured
    assert new is not None and old is not None  # noqa: S101, PT018 - the caller looked
    rounds = (len(old.metric.rounds), len(new.metric.rounds))
    if _unit(old.metric) == _unit(new.metric):
        ratio, low, high = ratio_interval(_times(old.metric), _times(new.metric), (old.round_builds, new.round_builds))
        verdict, why = _verdict(ratio, low, high, rounds, allowed)
    else:
        ratio = low = high = None
        verdict, why = "not judged", f"{_unit(old.metric)} before, {_unit(new.metric)} now"
    accuracy = accuracy_change(old.accuracy, new.accuracy, same)
    if accuracy is not None and accuracy.points < -MAX_DROP and accuracy.p_high < CHANCE:
        p = f"at most {accuracy.p_high:.2g}" if accuracy.bounded else f"{accuracy.p_high:.2g}"
        verdict, why = "less accurate", f"{accuracy.points:+.2f} points, McNemar's p {p}"
    if row.verdict == "wrong":
        verdict, why = "still wrong" if before.verdict == "wrong" else "wrong", row.why
    elif before.verdict == "wrong":
        verdict, why = "mended", f"before: {before.why}"
    return Change(
        name=row.name,
        batch=row.batch,
        metric=new.metric.name,
        old=_figure(old),
        new=_figure(new),
        ratio=_finite(ratio),
        low=_finite(low),
        high=_finite(high),
        rounds=rounds,
        accuracy=accuracy,
        verdict=verdict,
        why=why,
    )


def _finite(value: float | None) -> float | None:
    """Return what JSON can hold."""
    return None if value is None or math.isinf(value) else value


def _figure(measured: Measured) -> float:
    return median(measured.metric.rounds) if measured.metric.rounds else measured.median_ms


def _unit(metric: Metric) -> str:
    """Return what the rounds' figures are: the rates of two scenarios differ, the times are medians of all."""
    return metric.name if metric.higher_is_better else "ms"


def _times(metric: Metric) -> list[float]:
    """Return what each round took for the same work; infinity where it held no rate."""
    if not metric.higher_is_better:
        return list(metric.rounds)
    return [1 / each if each > 0 else math.inf for each in metric.rounds]


def _verdict(
    ratio: float | None, low: float | None, high: float | None, rounds: tuple[int, int], allowed: float
) -> tuple[str, str]:
    """Return what may be said of a ratio, and why."""
    if min(rounds) < ROUNDS:
        return "not judged", f"fewer than {ROUNDS} rounds"
    if ratio is None or low is None or high is None:
        return "not judged", "a round has no time or held no rate"
    if math.isinf(ratio):
        return "slower", "no rate is held any more"
    said = f"{ratio:.3g} times as long, 95 % interval {low:.3g} to {high:.3g}"
    if low > 1 and ratio > allowed:
        return "slower", said
    if high < 1 and ratio < 1 / allowed:
        return "faster", said
    return "unchanged" if low >= 1 / allowed and high <= allowed else "too noisy", said
