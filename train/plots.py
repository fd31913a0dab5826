"""Pictures of results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .contact_sheet import contact_sheet
from .evaluation import Evaluation
from .figures import lines, new_figure, save, text_style
from .lettering import Lettering

_SIDE = 6  # inches
_MOST_NUMBERED = 26  # classes up to which a count in each cell can be read
_RIGHT, _GAP, _COUNT = "#4c72b0", "#dd8452", "#8c8c8c"


def plot_confusion(path: Path, evaluation: Evaluation, title: str) -> None:
    """Draw the confusion matrix to ``path`` (PNG): rows are true classes, the darker the larger the share of the row.

    Raises:
        OSError: the file cannot be written.
    """
    confusion, labels = evaluation.confusion, evaluation.labels
    shares = confusion / evaluation.support.clip(min=1)[:, None]  # (K, K), rows sum to 1, or 0 where a class lacks
    side = max(_SIDE, 3 + 0.33 * len(labels))
    figure = new_figure(side, side)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    lettering = Lettering.for_texts([*labels, title])
    axes.set_title(lines(lettering, title), **text_style(lettering))
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # by the root: rare confusions show, too
    names = [lettering.text(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90, **text_style(lettering))
    axes.set_yticks(range(len(labels)), names, **text_style(lettering))
    if len(labels) <= _MOST_NUMBERED:
        for row, column in zip(*confusion.nonzero(), strict=True):
            shade = "white" if shares[row, column] > 0.25 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=shade, fontsize=7)
    save(figure, path)


def plot_reliability(path: Path, evaluation: Evaluation, title: str) -> None:
    """Draw the reliability diagram to ``path`` (PNG): the accuracy of each bin of confidences, and its count.

    The bars of a calibrated model end at the dashed line; hatched is what they lack or have too much.

    Raises:
        OSError: the file cannot be written.
    """
    reliability = evaluation.reliability
    edges = np.linspace(0, 1, len(reliability.counts) + 1)
    full = reliability.counts > 0
    middles, width = (edges[:-1] + edges[1:])[full] / 2, edges[1]
    counts, accuracy, confidence = reliability.counts[full], reliability.accuracy[full], reliability.confidence[full]
    lettering = Lettering.for_texts([title])
    figure = new_figure(_SIDE, _SIDE)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.set_title(lines(lettering, title), **text_style(lettering))
    above.bar(middles, accuracy, width, color=_RIGHT, edgecolor="white", label="accuracy")
    above.bar(
        middles,
        confidence - accuracy,
        width,
        bottom=accuracy,
        color="none",
        edgecolor=_GAP,
        hatch="///",
        label=f"gap to the mean confidence, {reliability.error:.2%} on average",
    )
    above.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="as often right as sure")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    below.bar(middles, counts, width, color=_COUNT, edgecolor="white")
    below.set(xlabel="confidence", ylabel="images", yscale="log", ylim=(0.5, 8 * counts.max()))
    below.yaxis.set_major_formatter("{x:,.0f}")
    for middle, count in zip(middles, counts, strict=True):
        below.text(middle, 1.15 * count, f"{count:,}", ha="center", va="bottom", fontsize=6.5)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def plot_worst(path: Path, evaluation: Evaluation, images: NDArray[np.uint8], title: str) -> None:
    """Draw the worst images to ``path`` (PNG), each with its class, the answer and the confidence in that.

    Args:
        path: the file to write.
        evaluation: says which answers are the worst.
        images: these images as the network sees them, uint8 (len(evaluation.worst()), H, W).
        title: stands above.

    Raises:
        OSError: the file cannot be written.
    """
    labels = evaluation.labels
    captions = [
        f"{labels[evaluation.truth[i]]} → {labels[evaluation.predictions[i]]}\n{evaluation.confidences[i]:.1%}"
        for i in evaluation.worst()
    ]
    told = "no answer is wrong"
    if captions:
        wrong = int((~evaluation.right).sum())
        told = f"{len(captions)} of {wrong:,} wrong answers, the surest first: true class → answer, confidence in it"
    contact_sheet(path, images, captions, title=f"{title}\n{told}")
