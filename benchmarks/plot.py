"""The picture of a result: median latency per backend, one panel per batch size."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.files import written_whole

from .environment import hardware_line
from .results import Result

_COLOURS = {
    "eager": "#8c8c8c",
    "torch": "#dd8452",
    "onnxruntime": "#4c72b0",
    "openvino": "#8172b3",
    "tensorrt": "#55a868",
}


def plot_latency(result: Result, path: Path, title: str) -> None:
    """Write a PNG with a bar per measured row, its rounds' medians as dots; nothing is drawn of rows that did not run.

    Raises:
        BackendUnavailable: matplotlib is missing.
        OSError: the file cannot be written.
    """
    if find_spec("matplotlib") is None:
        raise BackendUnavailable("the plot needs the package matplotlib: pip install 'quillrt[bench]'")
    from matplotlib.figure import Figure

    panels = [[row for row in result.rows if row.measured and row.batch == b] for b in result.settings["batches"]]
    panels = [rows for rows in panels if rows]
    tallest = max((len(rows) for rows in panels), default=1)
    figure = Figure(figsize=(5.6 * max(1, len(panels)), 1.9 + 0.42 * tallest), layout="constrained")
    for axes, rows in zip(figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels):
        for position, row in enumerate(rows):
            assert row.measured is not None  # noqa: S101 - panels hold measured rows only
            colour = next(c for prefix, c in _COLOURS.items() if row.backend.startswith(prefix))
            dots = row.measured.round_medians_ms
            axes.barh(position, row.measured.median_ms, color=colour, height=0.62)
            axes.plot(dots, [position] * len(dots), "k.", markersize=3)
            axes.annotate(
                f"{row.measured.median_ms:.3g} ms",
                (max(row.measured.median_ms, *dots), position),
                xytext=(5, 0), textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_xlabel("median latency of a query, ms (dots: medians of the rounds)", fontsize=8)
        axes.set_title(f"batch {rows[0].batch}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(f"{hardware_line(result.environment)}; {result.settings['threads']} thread(s)", fontsize=7)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=150)
