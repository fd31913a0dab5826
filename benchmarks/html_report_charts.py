"""The page's charts, each drawn twice: for a desktop and for a phone, so that letters keep their size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .columns import ranked
from .html_report_frame import Ran
from .html_report_heaps import ridges, transfers
from .html_report_plots import pareto, throughput_over
from .html_report_roofline import has_roof, rooflines
from .html_report_svg import tag
from .results import Result, Row
from .scaling_report import swept
from .sweeps import NEARLY

WIDTHS = {"wide": 560, "narrow": 340}

Draw = Callable[[Sequence[Ran], Sequence[Ran], int], str]  # a result's rows, those of all results, the width


_SWEPT: Mapping[str, tuple[str, Callable[[Row], int]]] = {
    "threads": ("CPU threads", lambda row: row.threads or 0),
    "size": ("pixels a side", lambda row: row.image_size or 0),
}


@dataclass(frozen=True)
class Charts:
    """One kind of picture, for every result and batch size that has it.

    Attributes:
        title: what it shows.
        says: how it is read.
        figures: in markup.
    """

    title: str
    says: str
    figures: tuple[str, ...]


def charts(results: Mapping[str, Result]) -> list[Charts]:
    """Return the kinds that these results have, the results side by side with axes alike."""
    found = [
        Charts(
            "Accuracy against latency",
            "Further left is faster, further up is more often right; vertical bars are 95 % intervals. Nothing beats "
            "the rows on the dotted line in both. Rows whose answers are wrong are crossed out and never on it. "
            "The numbers are those of the list below the plot.",
            _by_batch(results, _with_accuracy, pareto),
        ),
        Charts(
            "How latencies spread",
            "Every query that was measured, each row's heap to its own scale; the thick stroke is the median, the thin "
            "ones p90 and p99 where the queries are enough for them. A heap at the right end holds what is slower.",
            _by_batch(results, _with_latencies, ridges),
        ),
        Charts(
            "Throughput against batch size",
            "Images per second of wall time. In a sweep of batches a ring marks a row's knee, the smallest batch with "
            f"{NEARLY:.0%} of its best throughput.",
            _throughput(results),
        ),
        Charts("Throughput against CPU threads", "Images per second of wall time.", _swept(results, "threads")),
        Charts(
            "Throughput against image size",
            "The same network, weights as initialised, for images of so many pixels a side: only speed is compared.",
            _swept(results, "size"),
        ),
        Charts(
            "Under the roof of this machine",
            "Multiply-adds a second over multiply-adds for each byte that must be moved. The lines are what the "
            "machine's measured bandwidth and peaks allow; the share is that of the row's bound, above 100 % where its "
            "weights stay in a cache, or its library multiplies faster than the product that was measured, or less "
            "often.",
            _by_batch(results, lambda rows: [each for each in _ran(rows) if has_roof(each)], rooflines),
        ),
        Charts(
            "Where the time goes",
            "Medians by device events: copy to the device, computation, copy back.",
            _by_batch(results, _with_device, transfers),
        ),
    ]
    return [each for each in found if each.figures]


def _by_batch(
    results: Mapping[str, Result], which: Callable[[Sequence[Row]], list[Ran]], draw: Draw
) -> tuple[str, ...]:
    """Return a figure per batch size and result."""
    found: list[str] = []
    for batch in sorted({row.batch for result in results.values() for row in result.rows}):
        rows = {name: which([r for r in ranked(each.rows) if r.batch == batch]) for name, each in results.items()}
        found += _figures(rows, f"batch {batch}", draw)
    return tuple(found)


def _throughput(results: Mapping[str, Result]) -> tuple[str, ...]:
    """Return a figure per result whose rows ran with several batch sizes, a line for each."""
    rows = {name: _ran([row for row in ranked(each.rows) if _is_usual(row)]) for name, each in results.items()}
    return tuple(_over(rows, "all batch sizes", "batch size", lambda row: row.batch))


def _swept(results: Mapping[str, Result], sweep: str) -> tuple[str, ...]:
    """Return a figure per batch size and result that has this sweep, lines over what it changes."""
    title, value = _SWEPT[sweep]
    rows = {name: [row for row, _ in swept(each, sweep)] for name, each in results.items()}
    found: list[str] = []
    for batch in sorted({row.batch for some in rows.values() for row in some}):
        alike = {name: _ran([row for row in some if row.batch == batch]) for name, some in rows.items()}
        found += _over(alike, f"batch {batch}", title, value)
    return tuple(found)


def _over(rows: Mapping[str, Sequence[Ran]], title: str, axis: str, value: Callable[[Row], int]) -> list[str]:
    """Return a figure for each result, of those series alone that have two values at least: a point is no line."""
    lines: dict[str, list[Ran]] = {}
    for name, some in rows.items():
        values: dict[str, set[int]] = {}
        for row, _ in some:
            values.setdefault(row.series, set()).add(value(row))
        lines[name] = [each for each in some if len(values[each[0].series]) > 1]
    return _figures(lines, title, throughput_over(axis, value))


def _is_usual(row: Row) -> bool:
    return row.name == row.series


def _figures(rows: Mapping[str, Sequence[Ran]], title: str, draw: Draw) -> list[str]:
    """Return a figure for each result that has such rows, a picture for each of ``WIDTHS`` in it."""
    everyone = [each for some in rows.values() for each in some]
    found = []
    for name, some in rows.items():
        if some:
            drawn = (
                draw(some, everyone, width).replace("<svg", f'<svg class="{kind}"', 1) for kind, width in WIDTHS.items()
            )
            caption = tag("figcaption", escape(title + (f", {name}" if len(rows) > 1 else "")))
            found.append(tag("figure", caption + "".join(drawn)) + "\n")
    return found


def _ran(rows: Sequence[Row]) -> list[Ran]:
    return [(row, row.measured) for row in rows if row.measured]


def _with_accuracy(rows: Sequence[Row]) -> list[Ran]:
    return [(row, measured) for row, measured in _ran(rows) if measured.accuracy and row.kind == "backend"]


def _with_latencies(rows: Sequence[Row]) -> list[Ran]:
    return [(row, measured) for row, measured in _ran(rows) if any(each.latencies_ns for each in measured.rounds)]


def _with_device(rows: Sequence[Row]) -> list[Ran]:
    return [(row, measured) for row, measured in _ran(rows) if measured.device_ms]
