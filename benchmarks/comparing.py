"""Who is faster than whom, and when that cannot be said.

Ratios are paired by round: what disturbs one round disturbs all that ran in it. The rule for a verdict against the
baseline, and between the fastest rows of a batch size:

* wrong: answers beyond the tolerance of the precision, or more points of accuracy lost than ``MAX_DROP`` and McNemar's
  p below ``CHANCE``. Such a row never wins, whatever its speed, and nothing is compared with it.
* not judged: a round in which no rate was held, or fewer than ``ROUNDS`` rounds; the smallest and the largest of n
  values hold their median with probability 1 − 2^(1 − n), which is 94 % for five.
* faster, slower: the 95 % interval of the ratio lies above, or below, 1.
* equal: it holds 1, and all of it is within ``EQUAL`` of 1.
* too noisy: it holds 1, and a ratio that would matter as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from quillrt.compile.verify import MAX_DROP
from quillrt.runtime.precision import Precision

from .intervals import paired_interval
from .measured import Measured, Metric
from .results import Ratio, Row, Winner

REFERENCES = ("eager fp32", "onnxruntime-cpu fp32")
ROUNDS = 5
EQUAL = 0.02
CHANCE = 0.05

_NO_RATE = "in a round no rate was held"


def ratio(row: Metric, other: Metric, builds: Sequence[int] = ()) -> Ratio:
    """Return how many times as fast ``row`` is as ``other``, by the rounds that both have.

    ``builds`` says which session each ran in. Of no rounds where one is without a figure, as where no rate was held:
    the others alone would flatter who failed.
    """
    pairs = list(zip(row.rounds, other.rounds, strict=False))
    if not pairs or not all(a > 0 and b > 0 for a, b in pairs):
        return Ratio(0.0, 0.0, 0.0, 0)
    found = [(a / b if row.higher_is_better else b / a) for a, b in pairs]
    return Ratio(median(found), *paired_interval(found, builds), len(found))


def verdict(found: Ratio) -> str:
    """Return what may be said of a ratio, by the rule above."""
    if found.rounds < ROUNDS:
        return "not judged"
    if found.low > 1:
        return "faster"
    if found.high < 1:
        return "slower"
    return "equal" if found.low >= 1 - EQUAL and found.high <= 1 + EQUAL else "too noisy"


def fault(measured: Measured) -> str | None:
    """Return what is wrong with a row's answers in a line, or ``None``."""
    agreement, accuracy = measured.agreement, measured.accuracy
    if agreement is not None and not agreement.within:
        return (
            f"answers differ from {agreement.reference} by {agreement.relative_error:.2g} of their spread, "
            f"more than the {agreement.tolerance:g} that the precision explains"
        )
    if accuracy is not None and accuracy.drop_points > MAX_DROP and accuracy.p < CHANCE:
        return f"it loses {accuracy.drop_points:.2f} points of accuracy (p = {accuracy.p:.2g}), more than {MAX_DROP:g}"
    return None


def reference_among(ran: Sequence[tuple[str, str | None]]) -> str | None:
    """Return which of these rows, each a name and a precision, the others are held against.

    PyTorch eager, else onnxruntime, else the first in FP32, else the first; ``None`` of none.
    """
    exact = [name for name, precision in ran if precision == Precision.FP32]
    return next(iter([*(name for name in REFERENCES if name in exact), *exact, *(name for name, _ in ran)]), None)


def judged(rows: Sequence[Row]) -> tuple[tuple[Row, ...], dict[int, str], tuple[Winner, ...]]:
    """Add ratios and verdicts to rows; return them, and by batch size the baseline's name and who wins."""
    found: list[Row] = []
    baselines, winners = {}, []
    for batch in dict.fromkeys(row.batch for row in rows):
        alike, baseline, first = _judged([row for row in rows if row.batch == batch])
        found += alike
        winners.append(first)
        if baseline is not None:
            baselines[batch] = baseline
    return tuple(found), baselines, tuple(winners)


def _judged(rows: Sequence[Row]) -> tuple[list[Row], str | None, Winner]:
    """Add ratios and verdicts to the rows of one batch size; return them, the baseline's name and who wins."""
    baseline = reference_among([(r.name, r.precision) for r in rows if r.measured and r.kind == "backend"])
    metrics = {row.name: row.measured.metric for row in rows if row.measured}
    against = [name for name in dict.fromkeys((*REFERENCES, baseline)) if name in metrics]
    found = [_judge(row, baseline, {name: metrics[name] for name in against if name}) for row in rows]
    return found, baseline, winner(found)


def _judge(row: Row, baseline: str | None, metrics: dict[str, Metric]) -> Row:
    measured = row.measured
    if measured is None:
        return replace(row, verdict="not run", why=row.reason or "")
    ratios = {name: ratio(measured.metric, metric, measured.round_builds) for name, metric in metrics.items()}
    row = replace(row, speedup=ratios)
    if row.name == baseline:
        return replace(row, verdict="baseline", why="what the others are held against")
    if wrong := fault(measured):
        return replace(row, verdict="wrong", why=wrong)
    found = ratios[baseline or row.name]
    return replace(row, verdict=verdict(found), why=_said(found, baseline))


def _said(found: Ratio, other: str | None) -> str:
    if not found.rounds:
        return _NO_RATE
    return f"{found.ratio:.3g} times as fast as {other}, 95 % interval {found.low:.3g} to {found.high:.3g}"


def winner(rows: Sequence[Row]) -> Winner:
    """Return the fastest row of a batch size whose answers are right, or why none can be named."""
    batch = rows[0].batch
    able = [
        row for row in rows if row.measured and row.kind == "backend" and row.verdict != "wrong" and _figure(row) > 0
    ]
    if not able:
        return Winner(batch, None, (), "no row ran and answered right")
    first, *others = sorted(able, key=_figure, reverse=True)
    against = {row.name: _against(first, row) for row in others}
    verdicts = {name: verdict(found) for name, found in against.items()}
    close = [name for name, said in verdicts.items() if said != "faster"]
    if close:
        few = f"fewer than {ROUNDS} rounds" if all(against[name].rounds for name in close) else _NO_RATE
        why = {
            "equal": f"they differ by less than {EQUAL:.0%}",
            "not judged": few,
            "too noisy": "the rounds differ too much",
        }
        reasons = "; ".join(why[kind] for kind in sorted({verdicts[name] for name in close}) if kind != "slower")
        return Winner(batch, None, (first.name, *close), reasons or "the rounds and the whole contradict each other")
    if not others:
        return Winner(batch, first.name, (), "the only row that ran and answered right")
    second = others[0].name
    return Winner(batch, first.name, (), _said(against[second], second))


def _against(first: Row, row: Row) -> Ratio:
    measured = _measured(first)
    return ratio(measured.metric, _measured(row).metric, measured.round_builds)


def _measured(row: Row) -> Measured:
    assert row.measured is not None  # noqa: S101 - of rows that were measured
    return row.measured


def _figure(row: Row) -> float:
    """Return the median of the rounds' figures, the larger the better."""
    found = _measured(row).metric
    middle = median(found.rounds) if found.rounds else 0.0
    return middle if found.higher_is_better or middle == 0 else 1 / middle
