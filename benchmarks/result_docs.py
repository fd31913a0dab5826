"""The documents' tables out of the committed results: ``python -m quillrt.benchmarks.result_docs`` in a checkout.

README.md, its Chinese sister and docs/benchmarks.md have them between markers; what stands outside is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from quillrt.runtime.errors import DataError
from quillrt.runtime.files import write_text

from .markdown_report import to_markdown
from .report import markdown_table
from .results import Result
from .scenarios import SCENARIOS
from .script import run
from .stored import load_result

RESULTS = Path("benchmarks/results")
DOCUMENTS = (Path("README.md"), Path("README.zh-CN.md"), Path("docs/benchmarks.md"))

_NETWORKS = {"cnn": "cpu-cnn", "quillnet": "full-quillnet"}  # of README's table: whose results are in which file
_BATCHES = (1, 64)
_ROWS = {
    "eager fp32": "PyTorch eager FP32",
    "torch-compile fp32": "torch.compile FP32",
    "litert fp32": "LiteRT FP32",
    "openvino fp32": "OpenVINO FP32",
    "onnxruntime-cpu fp32": "onnxruntime FP32",
    "onnxruntime-cpu int8": "onnxruntime INT8",
    "openvino int8": "OpenVINO INT8",
    "litert int8": "LiteRT INT8",
}
_ON_GPUS = "| TensorRT, TensorRT-RTX, onnxruntime on CUDA | no NVIDIA GPU on this machine |"


@dataclass(frozen=True)
class Figure:
    """One row of a result, as README's table wants it.

    Attributes:
        median_ms: of a query.
        times_eager: how many times as fast as PyTorch eager; ``None`` where eager did not run.
        fastest: of its batch size.
        wrong: its answers are.
    """

    median_ms: float
    times_eager: float | None
    fastest: bool
    wrong: bool


Figures = Mapping[tuple[str, int], Figure]


def figures_of(result: Result) -> Figures:
    """Return the figures of a result's rows, by name and batch size."""
    first = {(each.name, each.batch) for each in result.winners}
    return {
        (row.name, row.batch): Figure(
            row.measured.median_ms,
            row.speedup["eager fp32"].ratio if "eager fp32" in row.speedup else None,
            (row.name, row.batch) in first,
            row.verdict == "wrong",
        )
        for row in result.rows
        if row.measured
    }


def readme_table(folder: Path) -> str:
    """Return README's table: the networks' medians in ms and how many times as fast as PyTorch eager they are."""
    figures = {network: figures_of(load_result(folder / f"{name}.json")) for network, name in _NETWORKS.items()}
    columns = ["backend"]
    for network in _NETWORKS:
        for number, batch in enumerate(_BATCHES):
            columns += [f"batch {batch}" if number else f"`{network}`, batch {batch}", "× eager"]
    rows = []
    for name, title in _ROWS.items():
        cells = [title]
        for network in _NETWORKS:
            for batch in _BATCHES:
                cells += _cells(figures[network].get((name, batch)))
        rows.append(cells)
    table = markdown_table(columns, rows)
    on_gpus = any("tensorrt" in name or "cuda" in name for each in figures.values() for name, _ in each)
    return table if on_gpus else table + _ON_GPUS + " |" * (len(columns) - 2) + "\n"


def _cells(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return "–", "–"
    if figure.wrong:
        return "WRONG", "–"
    ms = f"{figure.median_ms:.3f}" if figure.median_ms < 1 else f"{figure.median_ms:#.3g}"
    times = "–" if figure.times_eager is None else f"{figure.times_eager:.2f}"
    return (f"**{ms}**", f"**{times}**") if figure.fastest else (ms, times)


def scenario_table() -> str:
    """Return the scenarios as ``bench`` has them."""
    return markdown_table(
        ("scenario", "how queries come, and what counts", "batches", "queries at least"),
        [
            (f"`{name}`", each.says, ", ".join(map(str, each.batches)), f"{each.least_queries:,}")
            for name, each in SCENARIOS.items()
        ],
    )


def all_results(folder: Path) -> str:
    """Return every committed result, whole, under a heading each."""
    parts = []
    for path in sorted((*folder.glob("*.json"), *folder.glob("*.md"))):
        is_result = path.suffix == ".json"
        page = to_markdown({path.stem: load_result(path)}) if is_result else path.read_text(encoding="utf-8")
        parts.append(re.sub(r"^# .*\n", f"### `{path.name}`\n", page, count=1))
    return "\n".join(parts)


def filled(document: str, folder: Path) -> str:
    """Return a document with what stands between its markers made anew.

    Raises:
        DataError: a marker is not one of ours, or has no end.
    """
    made = {"table": readme_table, "scenarios": lambda _: scenario_table(), "results": all_results}
    for name in re.findall(r"<!-- bench:(\S+) -->", document):
        start, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if name not in made or end not in document:
            raise DataError(f"expected a marker out of {', '.join(made)}, and {end}; found {start}; mend the document")
        before, rest = document.split(start, 1)
        document = f"{before}{start}\n\n{made[name](folder)}\n{end}{rest.split(end, 1)[1]}"
    return document


def main() -> None:
    """Write the tables of both READMEs and docs/benchmarks.md anew, out of benchmarks/results."""
    for path in DOCUMENTS:
        if not path.is_file():
            raise DataError(f"expected {path}, found none; run this in a checkout")
        write_text(path, filled(path.read_text(encoding="utf-8"), RESULTS))
        typer.echo(f"wrote {path}")


if __name__ == "__main__":
    run(main)
