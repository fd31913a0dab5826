"""Which nodes INT8 hurts: each one quantized alone, and all but it, by accuracy and by error on real images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.errors import ExportError
from quillrt.runtime.progress import Track, no_progress

from .answers import Answers
from .quantize import NodeDecision, Recipe, quantize
from .source import Source


@dataclass(frozen=True)
class Effect:
    """What quantizing some nodes does.

    Attributes:
        drop: accuracy of FP32 minus that of the quantized graph, in points.
        error: root mean square of the logits' difference from FP32, as a share of the logits' own.
    """

    drop: float
    error: float


@dataclass(frozen=True)
class Sensitivity:
    """How much one node suffers.

    Attributes:
        node: its name, that of its PyTorch module.
        op_type: its operator.
        alone: the effect of quantizing it and nothing else.
        without: the effect of quantizing all but it.
    """

    node: str
    op_type: str
    alone: Effect
    without: Effect


@dataclass(frozen=True)
class Analysis:
    """All nodes of a graph, the most sensitive first.

    Attributes:
        accuracy: of FP32 (0..1).
        n: images.
        whole: the effect of quantizing all of them.
        nodes: each node, by its error alone.
        others: the convolutions and products that INT8 does not take, and why.
    """

    accuracy: float
    n: int
    whole: Effect
    nodes: tuple[Sensitivity, ...]
    others: tuple[NodeDecision, ...]


def analyse(
    source: Source,
    table: CalibrationTable,
    recipe: Recipe,
    answers: Answers,
    track: Track = no_progress,
) -> Analysis:
    """Quantize each node of ``source`` alone, and all but it, and run both on the images of ``answers``.

    Both run on onnxruntime's CPU provider. The order is that of the error alone, which tells nodes apart where no
    answer changes.

    Raises:
        CalibrationError: the table belongs to another model or preprocessing.
        ExportError: INT8 takes none of the nodes.
    """
    table.check_fits(source.sha256, source.spec.preprocessing)
    _, decisions = quantize(source.graph, table.ranges, recipe)
    kinds = {decision.name: decision.op_type for decision in decisions if decision.quantized}
    if not kinds:
        raise ExportError("expected nodes that INT8 can compute, found none; nothing to analyse")
    reference = answers.reference

    def effect(excluded: Collection[str]) -> Effect:
        typed, _ = quantize(source.graph, table.ranges, recipe, excluded)
        return compared(reference, answers.logits(typed), answers.labels)

    nodes = [
        Sensitivity(name, kind, alone=effect(kinds.keys() - {name}), without=effect({name}))
        for name, kind in track(list(kinds.items()), "quantizing each node", len(kinds))
    ]
    return Analysis(
        accuracy=float((reference.argmax(axis=1) == answers.labels).mean()),
        n=len(answers.labels),
        whole=effect(()),
        nodes=tuple(sorted(nodes, key=lambda each: -each.alone.error)),
        others=tuple(decision for decision in decisions if not decision.quantized),
    )


def compared(reference: NDArray[np.float32], logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Effect:
    """Return how logits (N, K) differ from those of FP32."""
    right, right_before = (each.argmax(axis=1) == labels for each in (logits, reference))
    scale = float(np.sqrt(np.square(reference).mean())) or 1.0
    error = float(np.sqrt(np.square(logits - reference).mean())) / scale
    return Effect(drop=100 * float(right_before.mean() - right.mean()), error=error)


def plot_sensitivity(path: Path, analysis: Analysis, title: str) -> None:
    """Draw the nodes as bars to ``path`` (PNG), the most sensitive on top: its error alone, and that of all but it.

    Raises:
        OSError: the file cannot be written.
    """
    from quillrt.train.figures import lines, new_figure, save, text_style
    from quillrt.train.lettering import Lettering

    names = [each.node for each in analysis.nodes]
    lettering = Lettering.for_texts([*names, title])
    figure = new_figure(8, 2 + 0.42 * len(names))
    axes = figure.add_subplot(xlabel="error of the logits, % of their size (root mean square)")
    axes.set_title(lines(lettering, title), **text_style(lettering))
    rows = np.arange(len(names))
    for shift, label, colour, errors in (
        (-0.2, "this node alone in INT8", "#dd8452", [each.alone.error for each in analysis.nodes]),
        (0.2, "all but this node", "#4c72b0", [each.without.error for each in analysis.nodes]),
    ):
        axes.barh(rows + shift, 100 * np.array(errors), 0.38, color=colour, label=label)
    whole = analysis.whole
    axes.axvline(
        100 * whole.error, color="black", linestyle="--", linewidth=0.8, label=f"all in INT8 ({whole.drop:+.2f} points)"
    )
    axes.set_yticks(rows, [lettering.text(name) for name in names], **text_style(lettering))
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)
