"""The course of a training, as a table and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quillrt.runtime.files import write_text

from .figures import lines, new_figure, save, text_style
from .lettering import Lettering

Course = Sequence[Mapping[str, Any]]  # an ``Epoch`` each, as JSON values


def write_history(path: Path, history: Course) -> None:
    """Write one line per epoch to ``path`` (CSV), its fields' names first.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_text(path, text.getvalue())


def plot_history(path: Path, history: Course, title: str) -> None:
    """Draw loss and error over the epochs to ``path`` (PNG).

    The error, not the accuracy, and on a logarithmic scale: from 99.5 to 99.7 % is a long way.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [epoch["number"] for epoch in history]
    figure, lettering = new_figure(9, 3.6), Lettering.for_texts([title])
    figure.suptitle(lines(lettering, title), **text_style(lettering))
    losses = figure.add_subplot(1, 2, 1, xlabel="epoch", ylabel="loss", yscale="log")
    errors = figure.add_subplot(1, 2, 2, xlabel="epoch", ylabel="error, %", yscale="log")
    for prefix, colour, name in (("", "tab:gray", "training, as varied"), ("validation_", "tab:blue", "validation")):
        # A logarithm has no place for 0.
        losses.plot(epochs, [max(e[f"{prefix}loss"], 1e-6) for e in history], ".-", color=colour, label=name)
        shares = [max(100 * (1 - e[f"{prefix}accuracy"]), 1e-2) for e in history]
        errors.plot(epochs, shares, ".-", color=colour, label=f"{name}: {history[-1][f'{prefix}accuracy']:.2%}")
    for axes in (losses, errors):
        axes.grid(which="both", alpha=0.3)
        axes.legend(frameon=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)
