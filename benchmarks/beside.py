"""Several results in one table: each row's median in every one of them, and how it stands to the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .columns import Value, ranked
from .results import Result, Row


@dataclass(frozen=True)
class Cell:
    """One cell: its value as the result has it, and how people read it."""

    value: Value
    text: str


@dataclass(frozen=True)
class Line:
    """One row at one batch size; ``wrong`` where its answers are so in any of the results."""

    cells: tuple[Cell, ...]
    wrong: bool


def side_by_side(results: Mapping[str, Result]) -> tuple[tuple[str, ...], list[Line]]:
    """Return the columns' titles, and a line for each row that was measured in any of the results."""
    found = [{(row.name, row.batch): row for row in ranked(each.rows)} for each in results.values()]
    first, *others = results
    titles = ["row", "batch", f"{first}, median ms"]
    for name in others:
        titles += [f"{name}, median ms", f"÷ {first}"]
    lines = []
    for name, batch in sorted({key: None for rows in found for key in rows}, key=lambda key: key[1]):
        rows = [each.get((name, batch)) for each in found]
        base, *later = map(_median, rows)
        cells = [Cell(name, name), Cell(batch, str(batch)), Cell(base, _said(base, rows[0]))]
        for row, median in zip(rows[1:], later, strict=True):
            ratio = median / base if median is not None and base else None
            cells += [Cell(median, _said(median, row)), Cell(ratio, "–" if ratio is None else f"{ratio:.2f}")]
        lines.append(Line(tuple(cells), any(row is not None and row.verdict == "wrong" for row in rows)))
    return tuple(titles), lines


def _median(row: Row | None) -> float | None:
    return row.measured.median_ms if row and row.measured else None


def _said(median_ms: float | None, row: Row | None) -> str:
    if median_ms is None:
        return "–"
    return f"{median_ms:.3f}" + (" WRONG" if row is not None and row.verdict == "wrong" else "")
