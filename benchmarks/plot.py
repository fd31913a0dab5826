"""The picture of a result: median latency per backend, one panel per batch size."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.files import written_whole

from .environment import hardware_line
from .results import Result, Row

# By the start of the row's name.
_COLOURS = {
    "eager": "#8c8c8c",
    "torch": "#dd8452",
    "pytorch": "#c44e52",
    "onnxruntime": "#4c72b0",
    "openvino": "#8172b3",
    "litert": "#ccb974",
    "tensorrt": "#55a868",
}
_OTHER = "#937860"


def plot_latency(result: Result, path: Path, title: str) -> None:
    """Write a PNG with a bar per measured row, its rounds' medians as dots; nothing is drawn of rows that did not run.

    Raises:
        BackendUnavailable: matplotlib is missing.
        OSError: the file cannot be written.
    """
    if find_spec("matplotlib") is None:
        raise BackendUnavailable("the plot needs the package matplotlib: pip install 'quillrt[bench]'")
    from matplotlib.figure import Figure

    batches = dict.fromkeys(row.batch for row in result.rows if row.measured)
    panels = [[(_label(row), row.measured) for row in result.rows if row.measured and row.batch == b] for b in batches]
    tallest = max((len(bars) for bars in panels), default=1)
    longest = max((len(name) for bars in panels for name, _ in bars), default=0)
    panel = 3.6 + 0.075 * max(27, longest)  # inches; a letter of 8 points takes 0.06
    figure = Figure(figsize=(panel * max(1, len(panels)), 1.9 + 0.42 * tallest), layout="constrained")
    for number, (batch, bars) in enumerate(zip(batches, panels, strict=True)):
        axes = figure.add_subplot(1, len(panels), number + 1)
        for position, (name, measured) in enumerate(bars):
            colour = next((colour for start, colour in _COLOURS.items() if name.startswith(start)), _OTHER)
            dots = measured.round_medians_ms
            axes.barh(position, measured.median_ms, color=colour, height=0.62)
            axes.plot(dots, [position] * len(dots), "k.", markersize=3)
            axes.annotate(
                f"{measured.median_ms:.3g} ms",
                (max(measured.median_ms, *dots), position),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.set_xlabel("median latency of a query, ms (dots: medians of the rounds)", fontsize=8)
        axes.set_title(f"batch {batch}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    threads = f"CPU threads per query: {result.settings['threads']}"
    figure.supxlabel(f"{hardware_line(result.environment)}; {threads}", fontsize=7)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=150)


def _label(row: Row) -> str:
    return f"{row.name} (WRONG)" if row.verdict == "wrong" else row.name
