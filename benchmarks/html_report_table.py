"""The page's tables: every cell holds its value as the result has it, which the table sorts by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape

from .beside import side_by_side
from .columns import WHO, Column, Value, ranked, tables
from .html_report_svg import tag
from .results import Result, Row
from .scenarios import SCENARIOS

_DOUBTFUL = ("too noisy", "not judged")


def result_tables(result: Result) -> str:
    """Return a table for each kind of figure that the result has, best rows first, wrong ones last."""
    first = {(each.batch, each.name) for each in result.winners if each.name}
    rows = ranked(result.rows)
    offline = SCENARIOS[result.settings["scenario"]].metric == "images_per_second"
    lead = "images_per_second" if offline else "median_ms"
    return "".join(_table(title, columns, rows, first, lead) for title, columns in tables(result).items())


def medians_table(results: Mapping[str, Result]) -> str:
    """Return one table of medians with a column for each result, and how they stand to the first one's."""
    titles, lines = side_by_side(results)
    head = [_head(title, words=number == 0) for number, title in enumerate(titles)]
    body = [
        tag(
            "tr",
            "".join(_cell(each.value, each.text, head=number == 0) for number, each in enumerate(line.cells)),
            class_="wrong" if line.wrong else None,
        )
        for line in lines
    ]
    return _drawn("Medians side by side", head, body)


def _table(
    title: str, columns: Sequence[Column], rows: Sequence[Row], first: Collection[tuple[int, str | None]], lead: str
) -> str:
    """Return a table with its figure right after the row's name: ``lead`` where it has that, else its first."""
    rows = [row for row in rows if any(column.value(row) is not None for column in columns)]
    told = [column for column in columns if any(column.value(row) is not None for row in rows)]
    told.sort(key=lambda column: column.key != lead)
    name, *about = WHO
    shown = (name, *told[:1], *about, *told[1:])
    head = [_head(c.title, words=c.key in ("row", "verdict")) for c in shown]
    lines = []
    for row in rows:
        leading = (row.batch, row.name) in first
        line = [_of(column, row, leading) for column in shown]
        kind = "wrong" if row.verdict == "wrong" else "first" if leading else None
        lines.append(tag("tr", "".join(line), class_=kind))
    return _drawn(title, head, lines)


def _of(column: Column, row: Row, leading: bool) -> str:  # noqa: FBT001
    value = column.value(row)
    if column.key == "verdict":
        said = "fastest" if leading else ("peer, " if row.kind == "peer" else "") + column.text(row)
        kind = "wrong" if row.verdict == "wrong" else "first" if leading else ""
        kind = kind or ("doubtful" if row.verdict in _DOUBTFUL else "")
        mark = tag("span", escape(said), class_=f"verdict {kind}".strip(), title=row.why or None)
        return tag("td", mark, class_="words", data_value=value)
    return _cell(value, column.text(row), head=column.key == "row")


def _head(title: str, *, words: bool = False) -> str:
    button = tag("button", escape(title), type="button")
    return tag("th", button, scope="col", class_="words" if words else None, data_kind=None if words else "number")


def _cell(value: Value, said: str, *, head: bool = False) -> str:
    """Return a cell; ``data-value`` has every digit that JSON has."""
    given = repr(float(value)) if isinstance(value, float) else value
    if head:
        return tag("th", escape(said), scope="row", data_value=given)
    return tag("td", escape(said), class_="number", data_value=given)


def _drawn(title: str, head: Sequence[str], lines: Sequence[str]) -> str:
    body = tag("thead", tag("tr", "".join(head))) + tag("tbody", "\n".join(lines))
    table = tag("table", tag("caption", escape(title)) + body)
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=title) + "\n"
