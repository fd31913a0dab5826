"""A result for people and programs: a table's cells, Markdown, JSON, a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from quillrt.runtime.files import write_text

from .environment import hardware_line
from .plot import plot_latency
from .results import HOST_BOUND, Measured, Result, Row
from .running import REFERENCES
from .statistics import queries_needed

COLUMNS = (
    "backend", "batch", "median ms", "p90 ms", "p99 ms", "images/s", "× eager", "× ONNX Runtime", "same label",
    "max |Δ|",
)  # fmt: skip


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the table's rows: what was measured, by batch size."""
    return [_measured_cells(row, row.measured) for row in rows if row.measured]


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the lines below the table: whose enqueue holds the GPU up, and what could not run, each reason once."""
    bound = [f"{row.name}, batch {row.batch}" for row in rows if row.measured and row.measured.host_bound]
    lines = [f"host-bound, enqueue above {HOST_BOUND} of compute: {'; '.join(bound)}"] if bound else []
    lines += _by_reason("not run here", [(row, row.reason) for row in rows if row.measured is None], rows)
    untold = [(row, row.measured.no_layers) for row in rows if row.measured and row.measured.no_layers]
    return lines + _by_reason("no times of layers", untold, rows)


def _by_reason(what: str, reasons: Sequence[tuple[Row, str | None]], rows: Sequence[Row]) -> list[str]:
    """Return a line for each reason with the names that have it, and their batch sizes where those are not all."""
    grouped: dict[str, dict[str, dict[int, None]]] = {}  # reason -> name -> batch sizes
    for row, reason in reasons:
        grouped.setdefault(str(reason), {}).setdefault(row.name, {})[row.batch] = None
    every = dict.fromkeys(row.batch for row in rows)
    lines = []
    for reason, names in grouped.items():
        who = [name + ("" if at == every else f", batch {', '.join(map(str, at))}") for name, at in names.items()]
        lines.append(f"{what}: {'; '.join(who)}: {reason}")
    return lines


def _measured_cells(row: Row, measured: Measured) -> tuple[str, ...]:
    """Return one measured row; a percentile that its queries cannot bear is a dash."""
    tail = measured.percentiles_ms
    return (
        row.name,
        str(row.batch),
        f"{measured.median_ms:.3f}",
        *(f"{tail[name]:.3f}" if name in tail else "–" for name in ("p90", "p99")),
        f"{measured.images_per_second:,.0f}",
        *(f"{row.speedup[name]:.2f}" if name in row.speedup else "–" for name in REFERENCES),
        f"{measured.agreement.same_label:.1%}",
        f"{measured.agreement.max_difference:.1e}",
    )


def _device_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return where the time went, for the rows that have a device's own times."""
    keys = ("h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms")
    timed = [(row, row.measured.device_ms) for row in rows if row.measured and row.measured.device_ms]
    return [(row.name, str(row.batch), *(f"{times[key]:.4f}" for key in keys)) for row, times in timed]


LAYER_COLUMNS = ("layer", "module", "computes in", "ms", "share")


def layer_cells(measured: Measured) -> list[tuple[str, ...]]:
    """Return what each layer takes of a query, in the order in which they run; ONNX's nodes are PyTorch's modules."""
    whole = sum(layer.ms for layer in measured.layers) or 1.0
    return [
        (layer.name, ", ".join(layer.nodes), layer.datatype, f"{layer.ms:.4f}", f"{layer.ms / whole:.1%}")
        for layer in measured.layers
    ]


def conditions(result: Result) -> list[str]:
    """Return the lines without which no figure may stand: machine, versions, how it was measured."""
    settings, environment = result.settings, result.environment
    counts = [row.measured.queries for row in result.rows if row.measured] or [0]
    gpu = f", on GPU {settings.get('device', 0)}" if len(environment["device"]["gpus"]) > 1 else ""
    return [
        f"Machine: {hardware_line(environment)}{gpu}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in environment["packages"].items()) + ".",
        "Measured: host memory to host memory, copies included, "
        f"{_options(settings.get('provider_options', {}))}, by one clock (perf_counter_ns), "
        f"CPU threads per query: {settings['threads']}, "
        f"{settings['images']} images ({settings['source']}) in rotation, each backend in its own process, "
        f"{settings['rounds']} rounds in turn, {settings['seconds']:g} s per row after warm-up, "
        f"n = {min(counts):,} to {max(counts):,} queries per row. "
        "Median: of the rounds' medians; p90, p99: nearest rank, shown from "
        f"{queries_needed(0.9)} and {queries_needed(0.99)} queries on. "
        f"×: how many times as fast as {' and '.join(REFERENCES)} in this run. "
        "Same label, max |Δ|: answers and logits beside those of the first row.",
    ]


def _options(options: Mapping[str, str]) -> str:
    given = "".join(f"{key}={value}, where a backend has it, " for key, value in options.items())
    return f"{given}CUDA graphs only where a row's name has them"


def to_markdown(result: Result, title: str) -> str:
    """Return the report as a page of Markdown."""
    lines = [f"# {title}", "", *(f"- {line}" for line in conditions(result)), ""]
    page = "\n".join(lines) + "\n" + markdown_table(COLUMNS, cells(result.rows))
    if below := notes(result.rows):
        page += "\n" + "".join(f"- {line}\n" for line in below)
    if timed := _device_cells(result.rows):
        columns = ("backend", "batch", "H2D ms", "compute ms", "D2H ms", "enqueue ms")
        page += f"\nMedians by device events, the enqueue by the host:\n\n{markdown_table(columns, timed)}"
    return page


def layers_markdown(result: Result) -> str:
    """Return a table for each row that tells what its layers take, nothing where none does."""
    return "".join(
        f"\nLayers of {row.name}, batch {row.batch}, means by the library's own profiler:\n\n"
        f"{markdown_table(LAYER_COLUMNS, layer_cells(row.measured))}"
        for row in result.rows
        if row.measured and row.measured.layers
    )


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, a line break at its end."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def write_report(result: Result, folder: Path, title: str) -> dict[str, Path]:
    """Write result.json, result.md and latency.png into ``folder`` and return where each is.

    Raises:
        OSError: the folder cannot be written.
        BackendUnavailable: matplotlib is missing; the other two are written.
    """
    paths = {"json": folder / "result.json", "markdown": folder / "result.md", "plot": folder / "latency.png"}
    write_text(paths["json"], json.dumps(result.to_json(), allow_nan=False, separators=(",", ":")) + "\n")
    write_text(paths["markdown"], to_markdown(result, title) + layers_markdown(result))
    plot_latency(result, paths["plot"], title)
    return paths
