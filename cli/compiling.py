"""The verb compile: from a model to a bundle with its proof."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.build_options import BUILD, AllowFallback, build_options
from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.options import (
    Cached,
    Config,
    DataRoot,
    Debug,
    Json,
    ModelDataset,
    Quiet,
    Seed,
    cache_of,
    check_output,
    config_beside,
    given_options,
    save_config,
)
from quillrt.cli.source_options import (
    Calibration,
    Denoise,
    Fit,
    Labels,
    Mean,
    Method,
    Percentile,
    RandomData,
    Samples,
    SourceFile,
    Std,
    images_of,
    load,
)
from quillrt.cli.verbs import with_options
from quillrt.cli.verifying import print_parity, print_verdicts
from quillrt.runtime.errors import ConfigError

if TYPE_CHECKING:
    from quillrt.cli.model_files import ModelFile
    from quillrt.compile.choice import Choice
    from quillrt.compile.search import Search
    from quillrt.compile.verify import Verdict
    from quillrt.runtime.bundle import Bundle

_FEW = 100  # validation images: fewer tell neither a temperature nor a threshold


@with_options(BUILD)
def compile(  # noqa: A001 - the verb's name
    ctx: typer.Context,
    source: SourceFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: SOURCE with .quill; models:NAME goes to runs/.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="fp32, fp16, bf16, int8, mixed (int8 and fp16), fp8; repeat. Default: fp32, fp16, int8. auto: "
            "of these the fastest here.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="onnxruntime-cpu, openvino, litert, tensorrt, tensorrt-rtx, pytorch; repeat. Default: ONNX for CPUs, "
            "and the TensorRT that builds here. auto: all that can be made here but pytorch.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Images in a query, for --precision auto.")] = 1,
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    calibration: Calibration = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="NODE", help="Leave the node of exactly this name out of INT8; repeat."),
    ] = None,
    method: Method = "minmax",
    percentile: Percentile = 99.999,
    samples: Samples = None,
    random_data: RandomData = False,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            help="Points that any file may lose on the validation part; where INT8 loses more, other methods and "
            "nodes in FP32 are searched. Default: 0.5, or more where that may be chance.",
        ),
    ] = None,
    allow_fallback: AllowFallback = False,
    labels: Labels = None,
    mean: Mean = None,
    std: Std = None,
    fit: Fit = None,
    denoise: Denoise = None,
    seed: Seed = 0,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
    **chosen: Any,
) -> None:
    """Compile a checkpoint or an ONNX classifier to one bundle: graphs, engines, the proof that they agree."""
    from quillrt.calibration.methods import Method
    from quillrt.calibration.table import CalibrationTable
    from quillrt.compile.config import DEFAULT_PRECISIONS, CompileConfig, computes
    from quillrt.compile.engines import all_targets, buildable
    from quillrt.compile.pipeline import compile_bundle
    from quillrt.compile.search import plot_search
    from quillrt.runtime.precision import Precision

    for name, given in (("--precision", precision), ("--target", target)):
        if given and "auto" in given and len(given) > 1:
            raise ConfigError(f"expected {name} auto alone, found {', '.join(given)}; leave the others out")
    auto = precision == ["auto"]
    precisions = DEFAULT_PRECISIONS if auto or not precision else tuple(Precision.parse(p) for p in precision)
    makeable = all_targets() if target == ["auto"] else ("onnxruntime-cpu", *buildable())
    named = tuple(target or ()) if target != ["auto"] else ()
    targets = named or tuple(each for each in makeable if computes(each, precisions))
    settings = CompileConfig(
        precisions=precisions,
        targets=targets,
        auto=auto,
        batch=batch,
        method=Method(method, percentile),
        samples=samples,
        random_data=random_data,
        excluded=tuple(exclude or ()),
        max_drop=max_drop,
        allow_fallback=allow_fallback,
        seed=seed,
        build=build_options(chosen),
    )
    output = output or source.beside(".quill")
    check_output(output, ".quill")
    table = None if calibration is None else CalibrationTable.load(calibration)
    note(f"exporting {source}", quiet)
    loaded = load(source.path, labels, mean, std, fit, denoise)
    images = images_of(loaded, dataset, data_root)
    bundle, verdicts, search, choice = compile_bundle(
        loaded, images, settings, output, table, tracker(quiet), cache_of(cached)
    )
    save_config(ctx, config_beside(output))
    for doubt in _doubts(bundle, verdicts):
        note(doubt, quiet)
    if search is not None:
        title = f"{source}: INT8 that loses at most {max_drop:g} points of {images.dataset}'s validation part"
        if find_spec("matplotlib"):
            plot_search(output.with_suffix(".search.png"), search, title)
        else:  # the bundle is written, and its report has the figures
            note("no plot of the search, which needs the package matplotlib: pip install 'quillrt[bench]'", quiet)
    if as_json:
        found = {"search": search and asdict(search), "choice": choice and asdict(choice)}
        files = [asdict(v) for v in verdicts]
        print_json({"path": str(output), "sha256": bundle.sha256, "verdicts": files, **found})
        return
    if search is not None:
        asked = given_options(ctx, "precision", "target", "dataset", "samples", "seed")
        _print_search(title, search, source, calibration, asked)
    print_verdicts(f"{output}: on the validation part of {images.dataset}", verdicts)
    print_parity(bundle)
    if choice is not None:
        _print_choice(choice)


def _doubts(bundle: Bundle, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Say what makes the bundle's figures worth little."""
    from quillrt.runtime.precision import Precision

    confidence, classes = bundle.manifest.confidence, len(bundle.manifest.model.labels)
    reference = next((v for v in verdicts if v.precision is Precision.FP32 and v.n), None)
    if reference is not None and reference.accuracy <= 1 / classes:
        yield (
            f"FP32 has {reference.accuracy:.2%} of n = {reference.n:,} validation images right, no more than chance: "
            "are the labels those of the model's training?"
        )
    if confidence.measured["n"] < _FEW:
        yield (
            f"temperature and threshold are found on n = {confidence.measured['n']} validation images, and may not "
            f"hold for others: give a data set with {_FEW} or more"
        )
    if confidence.least_energy is None and "taken_for_characters" not in confidence.measured:
        yield (
            "every image is taken for a character: how others look is learnt from photographs of scikit-learn, which "
            "is missing: pip install 'quillrt[train]'"
        )


def _print_search(title: str, found: Search, source: ModelFile, calibration: Path | None, asked: list[str]) -> None:
    """Print what was tried, and the commands that make it again with what else was ``asked`` for."""
    from quillrt.compile.search import described, options

    rows = [
        (
            described(trial),
            f"{trial.drop:+.2f}",
            f"{trial.p:.2g}",
            f"{trial.error:.2g}",
            f"{trial.cost:.3g}",
            "chosen" if trial == found.chosen else "front" if trial in found.front else "",
        )
        for trial in found.trials
    ]
    columns = ("calibration", "drop (points)", "McNemar p", "mean square error of logits", found.unit, "")
    print_table(title, columns, rows)
    for trial in dict.fromkeys((*found.front, found.chosen)):
        words = [str(calibration) if word == "TABLE" else word for word in options(trial)]
        typer.echo(f"{described(trial)}: quillrt compile {shlex.join([str(source), *words, *asked])}")


def _print_choice(choice: Choice) -> None:
    rows = [
        (t.path, t.backend, f"{t.latency_us:,.0f}", f"{t.drop:+.2f}", "kept" if t == choice.chosen else "")
        for t in choice.timings
    ]
    title = f"one thread, batch {choice.batch}, medians"
    print_table(title, ("file", "backend", "µs a query", "drop (points)", ""), rows)
    typer.echo(choice.note)
