"""Pictures of results."""

from __future__ import annotations

from pathlib import Path

from quillrt.runtime.files import written_whole

from .evaluation import Evaluation

_MOST_NUMBERED = 26  # classes up to which a count in each cell can be read


def plot_confusion(path: Path, evaluation: Evaluation, title: str) -> None:
    """Draw the confusion matrix to ``path`` (PNG): rows are true classes, shades the share of each row.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    confusion, labels = evaluation.confusion, evaluation.labels
    shares = confusion / evaluation.support.clip(min=1)[:, None]  # (K, K), rows sum to 1, or 0 where a class lacks
    side = 3 + 0.33 * len(labels)  # inches
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    axes.set_title(title, parse_math=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # Names come from users' folders: a `$` in one is no formula.
    axes.set_xticks(range(len(labels)), labels, rotation=90, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    if len(labels) <= _MOST_NUMBERED:
        for row, column in zip(*confusion.nonzero(), strict=True):
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=shade, fontsize=7)
    with written_whole(path) as beside:
        figure.savefig(beside, format="png")
