"""What a row of a result has, column by column: for the page's tables and for CSV, which hold the same figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .comparing import REFERENCES
from .measured import Accuracy, Agreement, Measured
from .results import Ratio, Result, Row, spread
from .roofline import Roofline

Value = float | int | str | None
Bounds = tuple[float, float]

_SHORT = dict(zip(REFERENCES, ("× eager", "× ONNX Runtime"), strict=True))


@dataclass(frozen=True)
class Column:
    """One figure of every row.

    Attributes:
        key: its name for programs, with the unit.
        title: its name for people.
        value: of a row, as the result has it; ``None`` where it has none.
        form: how people read it, as ``format`` wants it.
        scale: what the value is divided by for people.
        bounds: its 95 % interval.
    """

    key: str
    title: str
    value: Callable[[Row], Value]
    form: str = ""
    scale: float = 1.0
    bounds: Callable[[Row], Bounds | None] | None = None

    def text(self, row: Row) -> str:
        """Return the value for people, a dash for none."""
        value = self.value(row)
        if value is None or value == "":
            return "–"
        bounds = self.bounds(row) if self.bounds else None
        told = f" ({' to '.join(self._formed(each) for each in bounds)})" if bounds and bounds[0] < bounds[1] else ""
        return self._formed(value) + told

    def _formed(self, value: float | str) -> str:
        return value if isinstance(value, str) else format(value / self.scale if self.scale != 1 else value, self.form)


def _of(get: Callable[[Measured], Value]) -> Callable[[Row], Value]:
    return lambda row: None if row.measured is None else get(row.measured)


def _percentile(name: str) -> Callable[[Row], Value]:
    return _of(lambda measured: measured.percentiles_ms.get(name))


def _device(name: str) -> Callable[[Row], Value]:
    return _of(lambda measured: None if measured.device_ms is None else measured.device_ms[name])


def _accuracy(get: Callable[[Accuracy], Value]) -> Callable[[Row], Value]:
    return _of(lambda measured: None if measured.accuracy is None else get(measured.accuracy))


def _agreement(get: Callable[[Agreement], Value]) -> Callable[[Row], Value]:
    return _of(lambda measured: None if measured.agreement is None else get(measured.agreement))


def _ratio(name: str) -> Callable[[Row], Value]:
    return lambda row: row.speedup[name].ratio if _told(row, name) else None


def _ratio_bounds(name: str) -> Callable[[Row], Bounds | None]:
    return lambda row: (row.speedup[name].low, row.speedup[name].high) if _told(row, name) else None


def _told(row: Row, name: str) -> Ratio | None:
    """Return the row's ratio to another, if there is one of at least one round."""
    found = row.speedup.get(name)
    return found if found and found.rounds else None


def _accuracy_bounds(row: Row) -> Bounds | None:
    accuracy = row.measured.accuracy if row.measured else None
    return None if accuracy is None else (accuracy.low, accuracy.high)


def _roof(get: Callable[[Roofline], Value]) -> Callable[[Row], Value]:
    return lambda row: None if row.roofline is None else get(row.roofline)


def held_p99(measured: Measured) -> float | None:
    """Return the median of the rounds' 99th percentiles in ms at the rate that each held; ``None`` if none did."""
    held = [trial.p99_ms for each in measured.served for trial in each.trials if trial.rate_qps == each.rate_qps]
    return median(held) if held else None


WHO = (
    Column("row", "row", lambda row: row.name),
    Column("batch", "batch", lambda row: row.batch),
    Column("verdict", "verdict", lambda row: "WRONG" if row.verdict == "wrong" else row.verdict),
)
ANSWERS = (
    Column(
        "accuracy",
        "accuracy (95 %)",
        _accuracy(lambda a: a.right / a.images),
        ".2%",
        bounds=_accuracy_bounds,
    ),
    Column("accuracy_images", "images", _accuracy(lambda a: a.images), ","),
    Column("drop_points", "drop, points", _accuracy(lambda a: a.drop_points), ".2f"),
    Column("mcnemar_p", "McNemar's p", _accuracy(lambda a: a.p), ".2g"),
    Column("same_label", "same label", _agreement(lambda a: a.same_label), ".1%"),
    Column("max_difference", "max |Δ|", _agreement(lambda a: a.max_difference), ".1e"),
    Column("relative_error", "relative error", _agreement(lambda a: a.relative_error), ".1e"),
    Column("tolerance", "allowed", _agreement(lambda a: a.tolerance), ".0e"),
)
COSTS = (
    Column("load_ms", "load, ms", _of(lambda m: m.cost.load_ms), ",.0f"),
    Column("first_query_ms", "first query, ms", _of(lambda m: m.cost.first_query_ms), ",.1f"),
    Column("build_s", "build, s", _of(lambda m: m.cost.build_s), ",.1f"),
    Column("peak_rss_bytes", "peak memory, MB", _of(lambda m: m.cost.peak_rss_bytes), ",.0f", 2**20),
    Column("device_memory_bytes", "GPU memory, MB", _of(lambda m: m.cost.device_memory_bytes), ",.0f", 2**20),
    Column("artifact_bytes", "file, MB", _of(lambda m: m.cost.artifact_bytes), ",.2f", 2**20),
    Column("images_per_joule", "images/J", _of(lambda m: m.cost.images_per_joule), ",.0f"),
)
DEVICE = (
    Column("h2d_ms", "H2D, ms", _device("h2d_ms"), ".4f"),
    Column("compute_ms", "compute, ms", _device("compute_ms"), ".4f"),
    Column("d2h_ms", "D2H, ms", _device("d2h_ms"), ".4f"),
    Column("enqueue_ms", "enqueue, ms", _device("enqueue_ms"), ".4f"),
)
ROOFLINE = (
    Column("bound_fraction", "of bound", _roof(lambda r: r.fraction), ".1%"),
    Column("bound_ms", "bound, ms", _roof(lambda r: r.bound_ms), ".4f"),
    Column("above_bound", "above it, for", _roof(lambda r: r.above)),
    Column("limited_by", "limited by", _roof(lambda r: r.limited_by)),
    Column("computes_in", "computes in", _roof(lambda r: " + ".join(r.macs))),
    Column("computes_in_told_by", "told by", _roof(lambda r: r.told_by)),
    Column("macs", "MMAC", _roof(lambda r: sum(r.macs.values())), ",.1f", 1e6),
    Column("bytes", "MB", _roof(lambda r: r.bytes), ",.2f", 1e6),
)
SERVED = (
    Column("rate_qps", "queries/s held", _of(lambda m: m.metric.value if m.served else None), ",.0f"),
    Column("rate_p99_ms", "p99 at that, ms", _of(held_p99), ".3f"),
)


def latency_columns(result: Result) -> tuple[Column, ...]:
    """Return the columns of the latencies, with one for each row that others are compared with."""
    names = dict.fromkeys(name for row in result.rows for name in row.speedup)
    return (
        Column("threads", "threads", lambda row: row.threads),
        Column("image_size", "pixels a side", lambda row: row.image_size),
        Column("knee", "knee", lambda row: "knee" if row.knee else None),
        Column("median_ms", "median, ms", _of(lambda m: m.median_ms), ".3f"),
        Column("p90_ms", "p90, ms", _percentile("p90"), ".3f"),
        Column("p99_ms", "p99, ms", _percentile("p99"), ".3f"),
        Column("images_per_second", "images/s", _of(lambda m: m.images_per_second), ",.0f"),
        *(
            Column(f"times_{name.replace(' ', '_')}", _SHORT.get(name, f"× {name}"), _ratio(name), ".2f", bounds=bounds)
            for name in names
            for bounds in (_ratio_bounds(name),)
        ),
        Column("queries", "queries", _of(lambda m: m.queries), ","),
        Column(
            "round_spread",
            "rounds apart",
            _of(lambda m: spread(m.round_medians_ms) if m.rounds and m.median_ms else None),
            ".0%",
        ),
    )


def tables(result: Result) -> dict[str, tuple[Column, ...]]:
    """Return the columns by table; one without a single figure is left out."""
    found = {
        "Latency, host memory to host memory": latency_columns(result),
        "Arrivals at random": SERVED,
        "Where the time goes, by device events": DEVICE,
        "Answers": ANSWERS,
        "Costs": COSTS,
        "Under the roof of this machine": ROOFLINE,
    }
    return {
        title: columns
        for title, columns in found.items()
        if any(column.value(row) is not None for column in columns for row in result.rows)
    }


def to_csv(results: Mapping[str, Result]) -> str:
    """Return every row of the results by name, unrounded, empty where there is no figure, the verdict's reason last.

    Columns that not all results have are empty in the others.
    """
    every: dict[str, None] = {}
    lines: list[dict[str, Value]] = []
    for name, result in results.items():
        columns = (*WHO, *latency_columns(result), *SERVED, *DEVICE, *ANSWERS, *COSTS, *ROOFLINE)
        for row in result.rows:
            line: dict[str, Value] = {"result": name}
            for column in columns:
                line[column.key] = column.value(row)
                if column.bounds is not None:
                    line[f"{column.key}_low"], line[f"{column.key}_high"] = column.bounds(row) or (None, None)
            every.update(dict.fromkeys(line))
            lines.append({**line, "why": row.why})
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, [*every, "why"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return sheet.getvalue()


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the measured rows by batch size, the best first; behind them peers, and rows whose answers are wrong."""
    return sorted((row for row in rows if row.measured), key=_rank)


def leads(row: Row) -> bool:
    """Tell whether a row may stand before others: it is no peer, and its answers are right."""
    return row.kind == "backend" and row.verdict != "wrong"


def _rank(row: Row) -> tuple[int, bool, bool, float]:
    assert row.measured is not None  # noqa: S101 - of rows that were measured
    metric = row.measured.metric
    figure = median(metric.rounds) if metric.rounds else row.measured.median_ms
    return row.batch, row.verdict == "wrong", row.kind != "backend", -figure if metric.higher_is_better else figure
