"""The verb that judges a network: evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.model_files import ModelFile, bundle_file
from quillrt.cli.options import (
    Backend,
    Config,
    DataRoot,
    Debug,
    Json,
    ModelDataset,
    PrecisionName,
    Quiet,
    Threads,
    precision_of,
    save_config,
)
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.files import write_text
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import Session, SessionOptions

if TYPE_CHECKING:
    from quillrt.train.evaluation import Evaluation


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        ModelFile,
        typer.Argument(parser=bundle_file, help="Checkpoint (.safetensors), bundle (.quill) or models:NAME."),
    ],
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    part: Annotated[str, typer.Option("--part", help="test, validation or train.")] = "test",
    backend: Backend = None,
    precision: PrecisionName = None,
    threads: Threads = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for evaluation.json and confusion.png.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Measure accuracy, precision, recall, F1 and the confusion matrix of a checkpoint or a bundle."""
    from quillrt.train import evaluation
    from quillrt.train.datasets import load_dataset_for

    opened, training = _open(model.path, backend, precision_of(precision), SessionOptions(threads=threads))
    with opened as session:
        name, splits = load_dataset_for(session.spec, training, dataset, data_root)
        result = evaluation.evaluate(session, splits.part(part), track=tracker(quiet))
    title = f"{model.path.name} on {name} ({part}): {result.accuracy:.2%} of {result.n:,} images"
    report = {"model": str(model), "dataset": name, "part": part, **result.to_json()}
    if output is not None:
        _write_evaluation(ctx, output, result, title, report)
        note(f"wrote {output}/evaluation.json and {output}/confusion.png", quiet)
    if as_json:
        print_json(report)
        return
    rows = [(c["label"], f"{c['n']:,}", *_percent(c)) for c in report["classes"]]
    rows += [(name, f"{result.n:,}", *_percent(report[name])) for name in ("macro", "weighted")]
    print_table(title, ("class", "n", "precision %", "recall %", "F1 %"), rows)


VERBS = (evaluate,)


def _open(
    model: Path, backend: str | None, precision: Precision | None, options: SessionOptions
) -> tuple[Session, Mapping[str, Any]]:
    """Return a session of a checkpoint or a bundle, and the record of its training."""
    if model.suffix == ".quill":
        from quillrt.runtime.bundle import Bundle
        from quillrt.runtime.select import open_fitting

        bundle = Bundle.open(model)
        return open_fitting(bundle, backend, precision, options)[0], bundle.manifest.training
    if model.suffix != ".safetensors":
        raise ConfigError(f"expected a checkpoint (.safetensors) or a bundle (.quill), found {model}")
    if precision is not None:
        raise ConfigError(f"--precision chooses inside a bundle, but {model} is a checkpoint: compile it first")
    from quillrt.benchmarks.torch_sessions import open_torch_session
    from quillrt.train.checkpoint import load_checkpoint

    return open_torch_session(backend or "eager", model, options), load_checkpoint(model).training


def _write_evaluation(ctx: typer.Context, folder: Path, result: Evaluation, title: str, report: dict[str, Any]) -> None:
    from quillrt.train.plots import plot_confusion

    write_text(folder / "evaluation.json", json.dumps(report, indent=2) + "\n")
    plot_confusion(folder / "confusion.png", result, title)
    save_config(ctx, folder / "evaluation.toml")


def _percent(scores: dict[str, float]) -> list[str]:
    return [f"{100 * scores[name]:.2f}" for name in ("precision", "recall", "f1")]
