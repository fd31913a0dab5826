"""What each calibration method costs in accuracy: `python -m quillrt.benchmarks.calibration_methods MODEL...`.

All methods read the counts of one pass over the same training images; the INT8 graphs for CPUs, of which that counts
which loses more, and for TensorRT run on onnxruntime's CPU provider, on the whole test part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.benchmarks.environment import describe, hardware_line
from quillrt.benchmarks.script import run
from quillrt.compile.answers import Answers
from quillrt.compile.config import CompileConfig
from quillrt.compile.ranges import Images, tables_of
from quillrt.compile.search import METHODS, Judge
from quillrt.compile.source import load_source
from quillrt.train.datasets import load_dataset_for, public_name

_TARGETS = {"CPUs": "onnxruntime-cpu", "TensorRT": "tensorrt"}


def rows(path: Path, data_root: Path | None, samples: int) -> list[str]:
    """Return lines of a Markdown table: for each method the points lost for each kind of target, with McNemar's p."""
    source = load_source(path)
    training = source.checkpoint.training if source.checkpoint else {}
    name, splits = load_dataset_for(source.spec, training, None, data_root)
    images = Images(public_name(name), splits.train, splits.validation)
    tables = tables_of(source, images, CompileConfig(samples=samples), METHODS)
    answers = Answers(source.graph, source.spec, splits.test)
    judges = {kind: Judge(source, [target], answers) for kind, target in _TARGETS.items()}
    accuracy = next(iter(judges.values())).accuracy
    lines = []
    for method, make in zip(METHODS, tables, strict=True):
        table = make()
        trials = [judge.trial(table) for judge in judges.values()]
        cells = [f"{trial.drop:+.2f} (p = {trial.p:.2g})" for trial in trials]
        lines.append(f"| {path.name}, {accuracy:.2%}, n = {len(splits.test):,} | {method} | {' | '.join(cells)} |")
    return lines


def main(
    models: Annotated[list[Path], typer.Argument(help="Checkpoints that quillrt trained.")],
    data_root: Annotated[Path | None, typer.Option("--data-root", envvar="QUILLRT_DATA")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1)] = 512,
) -> None:
    """Print the points of accuracy that INT8 loses by each method."""
    lines = [line for path in models for line in rows(path, data_root, samples)]
    typer.echo(f"{samples} training images; {hardware_line(describe())}\n")
    typer.echo(f"| model, FP32 | method | {' | '.join(f'points lost for {kind}' for kind in _TARGETS)} |")
    typer.echo("\n".join([f"|---|---|{'---|' * len(_TARGETS)}", *lines]))


if __name__ == "__main__":
    run(main)
