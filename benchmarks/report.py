"""A result for people and programs: a table's cells, Markdown, JSON, a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from quillrt.runtime.counting import counted
from quillrt.runtime.files import write_text

from .columns import held_p99
from .comparing import REFERENCES
from .cost import Cost
from .environment import hardware_line
from .measured import HOST_BOUND, Measured
from .plot import plot_latency
from .results import Ratio, Result, Row
from .roofline_report import ROOFLINE_COLUMNS, peaks_line, roofline_cells
from .scaling_report import scaling_tables
from .scenarios import SCENARIOS
from .statistics import queries_needed
from .warmup import RULE

COLUMNS = ("backend", "batch", "median ms", "p90 ms", "p99 ms", "images/s", "× eager", "× ONNX Runtime", "verdict")
ANSWER_COLUMNS = ("backend", "batch", "images", "accuracy", "95 %", "p", "same label", "max |Δ|")
COST_COLUMNS = ("backend", "batch", "load ms", "first ms", "build s", "peak MB", "GPU MB", "file MB", "images/J")
SERVED_COLUMNS = ("backend", "batch", "queries/s", "p99 ms at that", "rates tried")


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the table's rows: what was measured, by batch size."""
    return [_measured_cells(row, row.measured) for row in rows if row.measured]


def answer_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return how the answers of each row stand to the labels and to the reference's; p is McNemar's."""
    return [_answer_cells(row, row.measured) for row in rows if row.measured and row.measured.agreement]


def cost_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return what each row costs besides time."""
    return [_cost_cells(row, row.measured.cost) for row in rows if row.measured]


def served_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the highest rate of arrivals at which each row held the bound, of the scenario ``server``."""
    return [_served_cells(row, row.measured) for row in rows if row.measured and row.measured.served]


def _answer_cells(row: Row, measured: Measured) -> tuple[str, ...]:
    agreement, accuracy = measured.agreement, measured.accuracy
    assert agreement is not None  # noqa: S101 - the caller looked
    told = ("–", "–", "–")
    if accuracy is not None:
        told = (
            f"{accuracy.right / accuracy.images:.2%}", f"{accuracy.low:.2%} to {accuracy.high:.2%}", f"{accuracy.p:.2g}"
        )  # fmt: skip
    differs = (f"{agreement.same_label:.1%}", f"{agreement.max_difference:.1e}")
    return (row.name, str(row.batch), f"{agreement.images:,}", *told, *differs)


def _cost_cells(row: Row, cost: Cost) -> tuple[str, ...]:
    def told(value: float | None, scale: float = 1.0, form: str = ",.1f") -> str:
        return "–" if value is None else format(value / scale, form)

    return (
        row.name,
        str(row.batch),
        told(cost.load_ms, form=",.0f"),
        told(cost.first_query_ms),
        told(cost.build_s),
        told(cost.peak_rss_bytes, 2**20, ",.0f"),
        told(cost.device_memory_bytes, 2**20, ",.0f"),
        told(cost.artifact_bytes, 2**20, ",.2f"),
        told(cost.images_per_joule, form=",.0f"),
    )


def _served_cells(row: Row, measured: Measured) -> tuple[str, ...]:
    held = held_p99(measured)
    tried = sum(len(each.trials) for each in measured.served)
    rate = measured.metric.value
    return (row.name, str(row.batch), f"{rate or 0:,.0f}", "–" if held is None else f"{held:.3f}", str(tried))


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the lines below the table: whose enqueue holds the GPU up, and what could not run, each reason once."""
    lines = [f"WRONG: {row.name}, batch {row.batch}: {row.why}" for row in rows if row.verdict == "wrong"]
    bound = [f"{row.name}, batch {row.batch}" for row in rows if row.measured and row.measured.host_bound]
    lines += [f"host-bound, enqueue above {HOST_BOUND} of compute: {'; '.join(bound)}"] if bound else []
    lines += _by_reason("not run here", [(row, row.reason) for row in rows if row.measured is None], rows)
    untold = [(row, row.measured.no_layers) for row in rows if row.measured and row.measured.no_layers]
    lines += _by_reason("no times of layers", untold, rows)
    roofs = [(row, row.roofline) for row in rows if row.roofline]
    lines += _by_reason("no bound", [(row, roof.reason) for row, roof in roofs if roof.reason], rows)
    return lines + _by_reason("faster than its bound", [(row, roof.above) for row, roof in roofs if roof.above], rows)


def outcomes(result: Result) -> list[str]:
    """Return who is the fastest at each batch size, or why nobody is, and our figures beside the peers'."""
    lines = []
    for each in result.winners:
        said = each.name or (f"cannot be told: {', '.join(each.tied)}" if each.tied else "none")
        lines.append(f"fastest at batch {each.batch}: {said} ({each.why})")
    for pair in result.beside:
        lines.append(
            f"{pair.ours} beside {pair.peer}, batch {pair.batch}: {pair.difference:+.1%}, "
            f"{pair.allowed:.0%} allowed ({pair.why})"
        )
    return lines


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
        *(_ratio(row.speedup.get(name)) for name in REFERENCES),
        "WRONG" if row.verdict == "wrong" else row.verdict,
    )


def _ratio(found: Ratio | None) -> str:
    """Return a ratio, and its interval where that has a width; a dash where there is none."""
    if found is None or not found.rounds:
        return "–"
    return f"{found.ratio:.2f}" + (f" ({found.low:.2f} to {found.high:.2f})" if found.low < found.high else "")


_DEVICE_COLUMNS = ("backend", "batch", "H2D ms", "compute ms", "D2H ms", "enqueue ms")


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
    settings, environment, rotation = result.settings, result.environment, result.rotation
    counts = [row.measured.queries for row in result.rows if row.measured] or [0]
    gpu = f", on GPU {settings.get('device', 0)}" if len(environment["device"]["gpus"]) > 1 else ""
    cache = "unknown" if rotation.l3_bytes is None else f"{rotation.l3_bytes / 2**20:,.0f} MB"
    bound = settings["latency_bound_ms"]
    return [
        f"Machine: {hardware_line(environment)}{gpu}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in environment["packages"].items()) + ".",
        f"Scenario: {settings['scenario']} ({SCENARIOS[settings['scenario']].says})"
        f"{f', bound {bound:g} ms' if bound is not None else ''}.",
        f"Images: {counted(settings['images'], 'image')} ({settings['source']}); queries rotate through "
        f"{counted(rotation.images, 'image')}, {rotation.bytes / 2**20:,.0f} MB, none twice (largest cache: {cache}).",
        "Measured: host memory to host memory, copies included, "
        f"{_options(settings['provider_options'])}, by one clock (perf_counter_ns), "
        f"CPU threads per query: {settings['threads']}, each backend in its own process, "
        f"{counted(settings['rounds'], 'round')} in turn over {counted(settings['builds'], 'build')}, "
        f"{settings['seconds']:g} s per row "
        f"after warm-up ({RULE}), n = {min(counts):,} to {max(counts):,} queries per row. "
        "Median: of the rounds' medians; p90, p99: nearest rank, shown from "
        f"{queries_needed(0.9)} and {queries_needed(0.99)} queries on. "
        f"×: how many times as fast as {' and '.join(REFERENCES)}, median of the rounds' ratios and its bootstrap 95 % "
        "interval, over several builds at least Student's of their sessions. Same label, max |Δ|: answers and logits "
        "beside the baseline's; p: McNemar's exact test of the two accuracies.",
        *peaks_line(result.peaks),
    ]


def _options(options: Mapping[str, str]) -> str:
    given = "".join(f"{key}={value}, where a backend has it, " for key, value in options.items())
    return f"{given}CUDA graphs only where a row's name has them"


def to_markdown(result: Result, title: str) -> str:
    """Return the report as a page of Markdown."""
    head = [*(f"**Warning: {line}.**" for line in result.warnings), *conditions(result)]
    lines = [f"# {title}", "", *(f"- {line}" for line in head), ""]
    page = "\n".join(lines) + "\n" + markdown_table(COLUMNS, cells(result.rows))
    if below := [*outcomes(result), *notes(result.rows)]:
        page += "\n" + "".join(f"- {line}\n" for line in below)
    for said, columns, found in (
        *scaling_tables(result),
        ("Arrivals at random, medians of the rounds' searches", SERVED_COLUMNS, served_cells(result.rows)),
        ("Answers", ANSWER_COLUMNS, answer_cells(result.rows)),
        ("Costs; a dash has its reason in result.json", COST_COLUMNS, cost_cells(result.rows)),
        ("Under the roof of this machine", ROOFLINE_COLUMNS, roofline_cells(result.rows)),
        ("Medians by device events, the enqueue by the host", _DEVICE_COLUMNS, _device_cells(result.rows)),
    ):
        page += f"\n{said}:\n\n{markdown_table(columns, found)}" if found else ""
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
