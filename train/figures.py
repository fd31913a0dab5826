"""What the pictures drawn with matplotlib have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quillrt.runtime.files import written_whole

from .lettering import Lettering

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEXT = 10  # points


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def lines(lettering: Lettering, title: str) -> str:
    """Return a title of one or more lines as the font can draw it."""
    return "\n".join(map(lettering.text, title.splitlines()))


def text_style(lettering: Lettering) -> dict[str, Any]:
    """Return what draws a text as it is: names come from users' folders, and a `$` in one is no formula."""
    from matplotlib.font_manager import FontProperties

    return {"fontproperties": FontProperties(fname=lettering.font, size=_TEXT), "parse_math": False}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with written_whole(path) as beside:
        figure.savefig(beside, format="png", bbox_inches="tight")  # wider for a long title
