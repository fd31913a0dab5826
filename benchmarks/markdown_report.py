"""Results as one page of Markdown: each as bench itself writes it, and several in one table before that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .beside import side_by_side
from .doubting import doubts
from .report import layers_markdown, markdown_table
from .report import to_markdown as one_result
from .results import Result


def to_markdown(results: Mapping[str, Result]) -> str:
    """Return the page."""
    several = len(results) > 1
    parts = []
    if several:
        titles, lines = side_by_side(results)
        parts.append(
            "# Benchmarks side by side\n\n" + markdown_table(titles, [[c.text for c in line.cells] for line in lines])
        )
    for name, result in results.items():
        model = result.model.get("name", "a GPU check's model")
        title = f"{name}: {model}" if several else f"Benchmark of {model}"
        doubtful = replace(result, warnings=tuple(doubts(result)))
        parts.append(one_result(doubtful, title) + layers_markdown(result))
    return "\n".join(parts)
