"""INT8 within a gate: other ways to calibrate first, then nodes left in FP32, until accuracy holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quillrt.calibration.methods import Method
from quillrt.calibration.table import IMPORTED, CalibrationTable
from quillrt.runtime.backends import ONNX_ON_CPU
from quillrt.runtime.errors import AccuracyError
from quillrt.runtime.preprocessing import normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.train.mcnemar import mcnemar

from .answers import Answers
from .graphs import recipe_for, recipes_for
from .latency import latencies_us
from .macs import multiply_adds
from .quantize import quantize
from .sensitivity import analyse
from .source import Source

METHODS = (
    Method("minmax"),
    Method("moving-average"),
    *(Method("percentile", share) for share in (99.999, 99.99, 99.9, 99.0)),
    Method("entropy"),
    Method("mse"),
)
_TIMED_IMAGES = 64


@dataclass(frozen=True)
class Trial:
    """One INT8 graph, or where targets differ, one for each.

    Attributes:
        method: how its ranges were found.
        excluded: nodes left in FP32.
        drop: points of accuracy that it loses on the validation part, the most of any target's graph.
        p: McNemar's exact p of that.
        error: mean square of the logits' difference from FP32, the most of any target's graph.
        cost: time of one image in microseconds, or share of the multiply-adds that stay in FP32: see ``Search.unit``.
    """

    method: str
    excluded: tuple[str, ...]
    drop: float
    p: float
    error: float
    cost: float = 0.0


@dataclass(frozen=True)
class Search:
    """What was tried, and what was chosen.

    Attributes:
        trials: in the order they were tried.
        chosen: the fastest that holds; of equally fast ones the most exact.
        unit: what ``cost`` counts.
    """

    trials: tuple[Trial, ...]
    chosen: Trial
    unit: str

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other beats in both drop and cost, the fastest first."""
        found: list[Trial] = []
        for trial in sorted(self.trials, key=lambda t: (t.cost, t.drop, t.error)):
            if not found or trial.drop < found[-1].drop:
                found.append(trial)
        return tuple(found)


class Judge:
    """Makes INT8 graphs of one model and judges them on the same images."""

    def __init__(self, source: Source, targets: Iterable[str], answers: Answers) -> None:
        self._source, self._answers, self._labels = source, answers, answers.labels
        asked = tuple(targets)
        self._timed = next((target for target in asked if target in ONNX_ON_CPU), None)
        self.recipes = recipes_for(asked)
        self._reference = answers.reference

    @property
    def accuracy(self) -> float:
        """Share (0..1) of right answers of FP32."""
        return float((self._reference.argmax(axis=1) == self._labels).mean())

    def trial(self, table: CalibrationTable, excluded: tuple[str, ...] = ()) -> Trial:
        """Return how INT8 with these ranges does."""
        right_before = self._reference.argmax(axis=1) == self._labels
        drops, errors = [], []
        made = [quantize(self._source.graph, table.ranges, recipe, excluded)[0] for recipe in self.recipes]
        for typed in {graph.SerializeToString(deterministic=True): graph for graph in made}.values():
            logits = self._answers.logits(typed)
            right = logits.argmax(axis=1) == self._labels
            drop = 100 * float(right_before.mean() - right.mean())
            drops.append((drop, mcnemar(right_before, right).p))
            errors.append(float(np.square(logits - self._reference).mean()))
        drop, p = max(drops)
        method = Method(table.method, table.percentile or Method.percentile) if table.observed else table.method
        return Trial(str(method), excluded, drop, p, max(errors))

    def costs(self, tables: Mapping[Trial, CalibrationTable]) -> tuple[dict[Trial, float], str]:
        """Return what each trial costs, and in which unit; graphs that differ in their ranges only cost the same."""
        graphs = {trial.excluded: (trial, table) for trial, table in tables.items()}
        if self._timed is not None:
            recipe = recipe_for(self._timed)
            models = [
                (self._timed, quantize(self._source.graph, table.ranges, recipe, excluded)[0].SerializeToString())
                for excluded, (_, table) in graphs.items()
            ]
            spec = self._source.spec
            images = normalize(self._answers.fitted[:_TIMED_IMAGES], spec.preprocessing, spec.channels)
            found = dict(zip(graphs, latencies_us(models, spec, images), strict=True))
            unit = f"µs an image on {self._timed}, one thread"
        else:
            macs = multiply_adds(self._source.graph)
            whole = sum(macs.values()) or 1
            found = {excluded: sum(macs.get(name, 0) for name in excluded) / whole for excluded in graphs}
            unit = "share of multiply-adds in FP32, for this target is not timed here"
        return {trial: found[trial.excluded] for trial in tables}, unit


def search(
    source: Source,
    targets: Iterable[str],
    tables: Sequence[Callable[[], CalibrationTable]],
    excluded: tuple[str, ...],
    answers: Answers,
    max_drop: float,
    track: Track = no_progress,
) -> tuple[Search, CalibrationTable]:
    """Find an INT8 graph that loses at most ``max_drop`` points; return the search and the table of its ranges.

    If the first of ``tables`` holds, that is it, and no other is made. Else all are tried, and if none holds, nodes go
    back to FP32 with the most exact of them, the most sensitive first, until one does. The nodes ``excluded`` are in
    FP32 from the start.

    Raises:
        AccuracyError: none holds with any node in INT8; says the best one.
    """
    judge = Judge(source, targets, answers)
    tried: dict[Trial, CalibrationTable] = {}
    for make in track(tables, "trying calibrations", len(tables)):
        table = make()
        tried[judge.trial(table, excluded)] = table
        if len(tried) == 1 and _holding(tried, max_drop):
            break
    if not _holding(tried, max_drop):
        best = min(tried, key=lambda trial: (trial.drop, trial.error))
        fullest = min(judge.recipes, key=lambda recipe: recipe.first_in_fp32)  # another may quantize what one leaves
        analysis = analyse(source, tried[best], fullest, answers, track)
        ranked = [each.node for each in analysis.nodes if each.node not in excluded]
        for count in track(range(1, len(ranked)), "leaving nodes in FP32", len(ranked) - 1):
            trial = judge.trial(tried[best], (*excluded, *ranked[:count]))
            tried[trial] = tried[best]
            if trial.drop <= max_drop:
                break
    holding = _holding(tried, max_drop)
    if not holding:
        best = min(tried, key=lambda trial: (trial.drop, trial.error))
        raise AccuracyError(
            f"expected an INT8 graph that loses at most {max_drop:g} points, found none among {len(tried)}: the best, "
            f"{described(best)}, loses {best.drop:.2f} (p = {best.p:.2g}, n = {len(answers.labels)}); "
            "give more --max-drop or leave int8 out"
        )
    costs, unit = judge.costs(tried)
    priced = {trial: replace(trial, cost=costs[trial]) for trial in tried}
    chosen = min(holding, key=lambda trial: (costs[trial], trial.error))
    return Search(tuple(priced.values()), priced[chosen], unit), tried[chosen]


def _holding(trials: Iterable[Trial], max_drop: float) -> list[Trial]:
    return [trial for trial in trials if trial.drop <= max_drop]


def described(trial: Trial) -> str:
    """Return how a trial was made, in words."""
    return f"{trial.method} without {', '.join(trial.excluded)}" if trial.excluded else trial.method


def options(trial: Trial) -> list[str]:
    """Return the options of ``quillrt compile`` that make a trial again."""
    method, _, percentile = trial.method.partition(" ")
    ranges = ["--calibration", "TABLE"] if method == IMPORTED else ["--method", method]
    share = ["--percentile", percentile] if percentile else []
    return [*ranges, *share, *(word for node in trial.excluded for word in ("--exclude", node))]


def plot_search(path: Path, found: Search, title: str) -> None:
    """Draw all trials by cost and drop to ``path`` (PNG), the front joined, the chosen one ringed.

    Raises:
        OSError: the file cannot be written.
    """
    from quillrt.train.figures import lines, new_figure, save, text_style
    from quillrt.train.lettering import Lettering

    texts = [described(trial) for trial in found.front]
    lettering = Lettering.for_texts([title, *texts])
    figure = new_figure(8, 5)
    axes = figure.add_subplot(xlabel=found.unit, ylabel="points of accuracy lost")
    axes.set_title(lines(lettering, title), **text_style(lettering))
    axes.scatter([t.cost for t in found.trials], [t.drop for t in found.trials], color="#8c8c8c", label="tried")
    axes.plot([t.cost for t in found.front], [t.drop for t in found.front], "o-", color="#4c72b0", label="Pareto front")
    chosen = found.chosen
    axes.scatter(chosen.cost, chosen.drop, s=180, facecolors="none", edgecolors="#dd8452", linewidths=2, label="chosen")
    for trial, text in zip(found.front, texts, strict=True):
        axes.annotate(
            lettering.text(text),
            (trial.cost, trial.drop),
            xytext=(6, 6),
            textcoords="offset points",
            **text_style(lettering),
        )
    axes.legend(frameon=False)
    save(figure, path)
