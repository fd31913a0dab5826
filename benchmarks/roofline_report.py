"""Rooflines for people: the table's cells, and what the bounds rest on."""

from __future__ import annotations

from collections.abc import Sequence

from .results import Row
from .roofline import COPY, Peak, Roofline

ROOFLINE_COLUMNS = ("backend", "batch", "of bound", "bound ms", "limited by", "computes in", "MMAC", "MB")


def roofline_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return where each row stands under the machine's roof."""
    return [_roofline_cells(row, row.roofline) for row in rows if row.roofline]


def _roofline_cells(row: Row, found: Roofline) -> tuple[str, ...]:
    return (
        row.name,
        str(row.batch),
        "–" if found.fraction is None else f"{found.fraction:.1%}{' (above)' if found.above else ''}",
        "–" if found.bound_ms is None else f"{found.bound_ms:.4f}",
        found.limited_by or "–",
        " + ".join(found.macs),
        f"{sum(found.macs.values()) / 1e6:,.1f}",
        f"{found.bytes / 1e6:,.2f}",
    )


def peaks_line(peaks: Sequence[Peak]) -> list[str]:
    """Return the line that says what the rows' bounds rest on."""
    if not peaks:
        return []
    told = []
    for peak in peaks:
        where = peak.device + ("" if peak.threads is None else f", threads {peak.threads}")
        figure = peak.how
        if peak.per_s is not None:
            figure = f"{peak.per_s / 1e9:,.1f} G{'B' if peak.kind == COPY else 'MAC'}/s"
            figure += f" ({peak.how}, best of n = {peak.repeats:,})"
        told.append(f"{where}, {peak.kind}: {figure}")
    return [
        "Bound: the longer of multiply-adds / peak and bytes (weights, input, output) / bandwidth, multiply-adds of "
        "the formats that the kernels compute in where the bundle tells them, else of the row's precision. Peaks of "
        f"this machine: {'; '.join(told)}."
    ]
