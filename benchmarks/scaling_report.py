"""What sweeps found, for people: throughput by what was swept."""

from __future__ import annotations

from dataclasses import replace

from .results import Result, Row
from .sweeps import NEARLY, SWEEPS

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # title, columns, lines

_TITLES = {
    "batch": f"Images/s by batch (knee: {NEARLY:.0%} of the row's best)",
    "threads": "Images/s by CPU threads",
    "size": "Images/s by pixels a side, untrained: only speed is compared",
}


def swept(result: Result, sweep: str) -> list[tuple[Row, int]]:
    """Return the measured rows that a sweep compares, each with what was swept; none where it was not asked for.

    Rows with the usual count of threads, too, say how many beside others; and a knee is one of batches alone.
    """
    if sweep not in result.settings.get("sweeps", ()):
        return []
    rows = [row for row in result.rows if row.measured]
    if sweep == "size":
        return [(row, row.image_size) for row in rows if row.image_size is not None]
    own = [row for row in rows if row.image_size is None]
    if sweep == "batch":
        return [(row, row.batch) for row in own if row.threads is None]
    changed = {(row.series, row.batch) for row in own if row.threads is not None}
    usual = result.settings["threads"]
    told = [replace(row, threads=row.threads or usual, knee=False) for row in own if (row.series, row.batch) in changed]
    return [(row, row.threads or usual) for row in told]


def scaling_tables(result: Result) -> list[Table]:
    """Return a table for each sweep of the result, of images a second; the knee is marked."""
    found = []
    for sweep in SWEEPS:
        lines: dict[tuple[str, int], dict[int, str]] = {}
        pairs = swept(result, sweep)
        for row, value in pairs:
            assert row.measured is not None  # noqa: S101 - of rows that were measured
            said = f"{row.measured.images_per_second:,.0f}{' (knee)' if row.knee else ''}"
            beside = result.settings["threads"] if sweep == "batch" else row.batch
            lines.setdefault((row.series, beside), {})[value] = said
        values = sorted({value for _, value in pairs})
        columns = ("backend", "threads" if sweep == "batch" else "batch", *map(str, values))
        cells = [(name, str(b), *(own.get(each, "–") for each in values)) for (name, b), own in lines.items()]
        found += [(_TITLES[sweep], columns, cells)] if cells else []
    return found
