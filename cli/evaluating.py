"""The verb that judges a network, alone or against another: evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, phase_bars, print_json, print_table, tracker
from quillrt.cli.model_files import ModelFile, bundle_file
from quillrt.cli.options import (
    Backend,
    Config,
    DataRoot,
    Debug,
    Device,
    Json,
    ModelDataset,
    PrecisionName,
    PreprocessingWay,
    Quiet,
    Threads,
    cache_of,
    check_output,
    precision_of,
    save_config,
)
from quillrt.runtime.errors import ConfigError, SpecError
from quillrt.runtime.files import write_text
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import Session, SessionOptions

if TYPE_CHECKING:
    from quillrt.runtime.imageset import ImageSet
    from quillrt.train.evaluation import Evaluation

_PICTURES = "confusion.png, worst.png and reliability.png"
_SHOWN = 5  # pairs of classes that the summary names


@dataclass(frozen=True)
class _Opened:
    """A model that is to be judged.

    Attributes:
        model: checkpoint or bundle.
        file: what of it runs: the file in the bundle, or the checkpoint itself.
        backend: what runs it.
        session: runs it.
        training: the record of its training.
    """

    model: ModelFile
    file: str
    backend: str
    session: Session
    training: Mapping[str, Any]

    def to_json(self) -> dict[str, str]:
        return {"model": str(self.model), "file": self.file, "backend": self.backend}


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        ModelFile,
        typer.Argument(parser=bundle_file, help="Checkpoint (.safetensors), bundle (.quill) or models:NAME."),
    ],
    against: Annotated[
        ModelFile | None,
        typer.Option(
            "--against", metavar="OTHER", parser=bundle_file, help="Compare with this model on the same images."
        ),
    ] = None,
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    part: Annotated[str, typer.Option("--part", help="test, validation, train or all.")] = "test",
    preprocessing: PreprocessingWay = "auto",
    backend: Backend = None,
    precision: PrecisionName = None,
    against_backend: Annotated[
        str | None, typer.Option("--against-backend", help="As --backend, for OTHER; by default what fits it.")
    ] = None,
    against_precision: Annotated[
        str | None, typer.Option("--against-precision", help="As --precision, for OTHER; by default what fits it.")
    ] = None,
    threads: Threads = None,
    device: Device = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"Folder for evaluation.json, {_PICTURES}.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Measure how often a checkpoint or a bundle is right, where it is wrong, and how sure it is of it."""
    from quillrt.runtime.prepare import check_way
    from quillrt.train.datasets import public_name
    from quillrt.train.evaluation import evaluate as judge
    from quillrt.train.mcnemar import mcnemar

    if against is None and (against_backend or against_precision):
        raise ConfigError("--against-backend and --against-precision choose for another model: give it by --against")
    check_way(preprocessing)
    if output is not None:
        check_output(output / "evaluation.json", ".json")
    options, track = SessionOptions(threads, device), tracker(quiet)
    with ExitStack() as stack:
        first = _open(stack, model, backend, precision_of(precision), options, quiet=quiet)
        second = other = None
        if against is not None:
            second = _open(stack, against, against_backend, precision_of(against_precision), options, quiet=quiet)
            _check_same_labels(first, second)
        name, images = _images(first, dataset, data_root, part, preprocessing)
        result = judge(first.session, images, track=track)
        if second is not None:
            other = judge(second.session, _images(second, name, data_root, part, preprocessing)[1], track=track)
    shown = public_name(name)
    title = f"{model.path.name} on {shown} ({part}): {result.accuracy:.2%} of {result.n:,} images"
    report = {**first.to_json(), "dataset": shown, "part": part, "preprocessing": preprocessing, **result.to_json()}
    if second is not None and other is not None:
        report["against"] = {**second.to_json(), **other.to_json()}
        report["mcnemar"] = asdict(mcnemar(result.right, other.right))
    if output is not None:
        write_text(output / "evaluation.json", json.dumps(report, indent=2) + "\n")
        _draw(output, result, images, first, title)
        save_config(ctx, output / "evaluation.toml")
        note(f"wrote evaluation.json, {_PICTURES} to {output}", quiet)
    if as_json:
        print_json(report)
        return
    _print(title, report)


def _open(
    stack: ExitStack,
    model: ModelFile,
    backend: str | None,
    precision: Precision | None,
    options: SessionOptions,
    *,
    quiet: bool,
) -> _Opened:
    """Open a checkpoint or a bundle; ``stack`` closes it."""
    if model.path.suffix == ".quill":
        from quillrt.runtime.bundle import Bundle
        from quillrt.runtime.select import open_fitting

        bundle = Bundle.open(model.path)
        with phase_bars(quiet) as phases:
            session, entry, chosen = open_fitting(
                bundle, backend, precision, options, cache_of(True), phases, lambda line: note(line, quiet)
            )
        return _Opened(model, entry.path, chosen, stack.enter_context(session), bundle.manifest.training)
    if model.path.suffix != ".safetensors":
        raise ConfigError(f"expected a checkpoint (.safetensors) or a bundle (.quill), found {model}")
    if precision is not None:
        raise ConfigError(f"--precision chooses inside a bundle, but {model} is a checkpoint: compile it first")
    from quillrt.benchmarks.torch_sessions import open_torch_session
    from quillrt.train.checkpoint import load_checkpoint

    chosen = backend or "eager"
    session = stack.enter_context(open_torch_session(chosen, model.path, options))
    return _Opened(model, model.path.name, chosen, session, load_checkpoint(model.path).training)


def _check_same_labels(first: _Opened, second: _Opened) -> None:
    """Raise unless both models tell the same classes apart, in whatever order: only then are their images the same.

    Raises:
        SpecError: one lacks a label of the other.
    """
    ours, theirs = first.session.spec.labels, second.session.spec.labels
    if set(ours) != set(theirs):
        alone = [
            f"{', '.join(label for label in labels if label not in others) or 'none'} only in {opened.model.path.name}"
            for opened, labels, others in ((first, ours, theirs), (second, theirs, ours))
        ]
        raise SpecError(f"expected two models of the same labels, found {' and '.join(alone)}; compare others")


def _images(opened: _Opened, dataset: str | None, data_root: Path | None, part: str, way: str) -> tuple[str, ImageSet]:
    """Return the data set's name and the images of its part; a folder's are fitted by the model's own recipe."""
    from quillrt.runtime.prepare import PHOTO
    from quillrt.train.datasets import as_photographs, load_dataset_for

    spec = opened.session.spec
    name, splits = load_dataset_for(spec, opened.training, dataset, data_root, way)
    images = splits.part(part)
    return name, as_photographs(images, spec.preprocessing) if way == PHOTO else images


def _draw(folder: Path, result: Evaluation, images: ImageSet, opened: _Opened, title: str) -> None:
    from quillrt.runtime.preprocessing import fit_images
    from quillrt.train.plots import plot_confusion, plot_reliability, plot_worst

    title = f"{title}\n{opened.file}, {opened.backend}"
    seen = fit_images(images.take(result.worst()), opened.session.spec.preprocessing)
    plot_confusion(folder / "confusion.png", result, title)
    plot_worst(folder / "worst.png", result, seen, title)
    plot_reliability(folder / "reliability.png", result, title)


def _print(title: str, report: dict[str, Any]) -> None:
    """Draw the table of the classes, the summary, and the comparison if there is one."""
    rows = [(c["label"], f"{c['n']:,}", *_percent(c)) for c in report["classes"]]
    rows += [(name, f"{report['n']:,}", *_percent(report[name])) for name in ("macro", "weighted")]
    print_table(title, ("class", "n", "precision %", "recall %", "F1 %"), rows)
    confused = ", ".join(f"{c['true']} as {c['predicted']} ({c['n']:,})" for c in report["confused"][:_SHOWN])
    summary = [
        ("file", report["file"]),
        ("backend", report["backend"]),
        ("accuracy", f"{report['accuracy']:.2%}, 95% interval {_interval(report)}"),
        *((f"top-{k}", f"{share:.2%}") for k, share in report["top_k"].items() if k != "1"),
        ("expected calibration error", f"{report['expected_calibration_error']:.2%}"),
        ("most confused", confused or "none"),
    ]
    print_table("summary", ("", ""), summary)
    if "against" in report:
        _print_comparison(report, report["against"], report["mcnemar"])


def _print_comparison(report: dict[str, Any], against: dict[str, Any], test: dict[str, Any]) -> None:
    rows = [
        (each["model"], each["file"], each["backend"], f"{each['accuracy']:.2%}", _interval(each), f"{alone:,}")
        for each, alone in ((report, test["only_first"]), (against, test["only_second"]))
    ]
    title = f"two models on the same {report['n']:,} images: McNemar's exact p = {test['p']:.3g}"
    print_table(title, ("model", "file", "backend", "accuracy", "95% interval", "right alone"), rows)


def _interval(report: dict[str, Any]) -> str:
    low, high = report["interval"]
    return f"{low:.2%} to {high:.2%}"


def _percent(scores: dict[str, float]) -> list[str]:
    return [f"{100 * scores[name]:.2f}" for name in ("precision", "recall", "f1")]
