"""The verbs that make networks: train and finetune."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, tracker
from quillrt.cli.model_files import ModelFile, checkpoint_file
from quillrt.cli.options import Dataset, ModelDataset, check_output
from quillrt.cli.training_options import DENOISE, SIZE, options, settings
from quillrt.cli.training_report import Reporter, beside
from quillrt.cli.verbs import with_options
from quillrt.runtime.errors import ConfigError

if TYPE_CHECKING:
    from quillrt.runtime.preprocessing import Preprocessing
    from quillrt.train.checkpoint import Checkpoint
    from quillrt.train.config import TrainConfig
    from quillrt.train.datasets import Splits
    from quillrt.train.distributed import World
    from quillrt.train.quantization import Steps
    from quillrt.train.training import Surroundings

_QAT = ("mse", "onnxruntime-cpu")  # how the ranges of --qat are found, and whose steps it takes

Model = Annotated[
    str,
    typer.Option("--model", help="cnn, quillnet, rnn, or module:factory, which returns your nn.Module for K, H, W."),
]


@with_options(options())
def train(
    ctx: typer.Context,
    dataset: Dataset = "digits",
    model: Model = "cnn",
    size: SIZE = 28,
    denoise: DENOISE = None,
    **chosen: Any,
) -> None:
    """Train a network from scratch and judge it on the test part."""
    config, recipe = settings(chosen), _recipe(size, denoise)  # what is wrong with these is told before torch is there
    path = _start(chosen, Path("runs", f"{_file_name(dataset)}-{_file_name(model)}.safetensors"))
    from quillrt.train import training
    from quillrt.train.datasets import load_dataset

    splits = _narrowed(load_dataset(dataset, chosen["data_root"], recipe), chosen)
    with _joined(config) as world:
        report = Reporter(ctx, chosen, path, dataset, config, world)
        surroundings = _surroundings(chosen, path, splits, world)
        with report.interruptible():
            trained = training.train_new(model, splits, config, surroundings, report.epoch)
        report.finish(trained, splits)


@with_options(options(epochs=10, lr=5e-4))
def finetune(
    ctx: typer.Context,
    checkpoint: Annotated[
        ModelFile,
        typer.Argument(
            parser=checkpoint_file, help="Where to start: a checkpoint (.safetensors), models:NAME, or PyTorch's .pth."
        ),
    ],
    dataset: ModelDataset = None,
    model: Annotated[
        str | None, typer.Option("--model", help="For PyTorch weights: the network they are of, as for train.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=6, max=512, help="For PyTorch weights: rows and columns of their images."),
    ] = None,
    denoise: DENOISE = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PATTERN", help="Parameters to leave as they are, as 'conv*'; repeat."),
    ] = None,
    head_only: Annotated[bool, typer.Option("--head-only", help="Train the last layer alone.")] = False,
    unfreeze_every: Annotated[
        int,
        typer.Option("--unfreeze-every", min=0, help="Begin with the last layer; one more joins after so many epochs."),
    ] = 0,
    qat: Annotated[
        bool, typer.Option("--qat", help="Quantization-aware: learn to compute in INT8, for models that it hurts.")
    ] = False,
    qat_method: Annotated[
        str, typer.Option("--qat-method", help="How the ranges of --qat are found, as for calibrate --method.")
    ] = _QAT[0],
    qat_target: Annotated[
        str, typer.Option("--qat-target", help="Whose steps --qat takes, as for compile --target.")
    ] = _QAT[1],
    **chosen: Any,
) -> None:
    """Train a checkpoint on: other data, other classes, part of it frozen, with a teacher, or for INT8."""
    config, foreign_recipe = settings(chosen), _recipe(size or 28, denoise)
    if not qat and (qat_method, qat_target) != _QAT:
        raise ConfigError("expected --qat beside --qat-method and --qat-target, found none; add it or leave them out")
    from quillrt.runtime.spec import character_spec
    from quillrt.train import finetuning
    from quillrt.train.checkpoint import load_checkpoint
    from quillrt.train.datasets import load_dataset, recorded_name
    from quillrt.train.freezing import Freezing
    from quillrt.train.pth import SUFFIXES, load_pth

    freezing = Freezing(tuple(freeze or ()), head_only, unfreeze_every)
    foreign = checkpoint.path.suffix in SUFFIXES
    if foreign is (model is None):
        raise ConfigError(
            f"expected --model beside PyTorch weights (.pth), which do not name their network, and only there; "
            f"found {checkpoint} and {'none' if model is None else model}"
        )
    if not foreign and (size is not None or denoise):
        raise ConfigError(f"expected --size and --denoise beside PyTorch weights (.pth) only; {checkpoint} has its own")
    start = None if foreign else load_checkpoint(checkpoint.path)
    name = dataset or (start and recorded_name(start.training)) or "digits"
    path = _start(chosen, Path("runs", f"{checkpoint.path.stem}-on-{_file_name(name)}.safetensors"), checkpoint)
    recipe = start.spec.preprocessing if start else foreign_recipe
    splits = _narrowed(load_dataset(name, chosen["data_root"], recipe), chosen)
    with _joined(config) as world:
        report = Reporter(ctx, chosen, path, name, config, world)
        fresh: tuple[str, ...] = ()
        if start is None:
            spec = character_spec(splits.classes, splits.preprocessing)
            found = load_pth(checkpoint.path, model or "", spec, config.seed)
            report.matched(checkpoint.path, found)
            start, fresh = found.checkpoint, found.fresh
        surroundings = _surroundings(chosen, path, splits, world)
        steps = _input_steps(start, splits, qat_method, qat_target, config.seed) if qat else None
        with report.interruptible():
            tuned = finetuning.finetune(
                start,
                splits,
                config,
                freezing,
                surroundings=surroundings,
                on_epoch=report.epoch,
                fresh=fresh,
                qat=steps,
            )
        report.finish(tuned, splits)


def _input_steps(start: Checkpoint, splits: Splits, method: str, target: str, seed: int) -> dict[str, Steps]:
    from quillrt.calibration.methods import Method
    from quillrt.compile.qat import input_steps

    return input_steps(start, splits.train, Method(method), target, seed)


def _file_name(name: str) -> str:
    """Return what to call files after a data set or a model."""
    from quillrt.train.datasets import public_name

    return public_name(name).removeprefix("folder:").replace(":", ".")


def _start(chosen: dict[str, Any], output: Path, *read: ModelFile) -> Path:
    """Return the path to write, once it is known that it can be written, and take as many threads as are wanted."""
    path: Path = chosen["output"] or output
    check_output(path, ".safetensors", *(file.path for file in (*read, *(chosen["teacher"] or ()))))
    if threads := chosen["threads"]:
        import torch

        torch.set_num_threads(threads)
    return path


def _recipe(size: int, denoise: list[str] | None) -> Preprocessing:
    from quillrt.runtime.preprocessing import Preprocessing

    return Preprocessing(height=size, width=size, denoise=tuple(denoise or ()))


def _joined(config: TrainConfig) -> AbstractContextManager[World]:
    from quillrt.train.distributed import joined

    return joined(config.device)


def _narrowed(splits: Splits, chosen: dict[str, Any]) -> Splits:
    """Return ``splits`` as --classes, --per-class and --synthetic would have them."""
    if chosen["classes"] is not None:
        splits = splits.only([name.strip() for name in chosen["classes"].split(",")])
    if chosen["per_class"] is not None:
        from quillrt.train.splitting import per_class

        splits = replace(splits, train=per_class(splits.train, chosen["per_class"], chosen["seed"]))
    if chosen["synthetic"] is not None:
        from quillrt.train.synthetic import with_synthetic

        splits = replace(splits, train=with_synthetic(splits.train, chosen["synthetic"]))
    return splits


def _surroundings(chosen: dict[str, Any], path: Path, splits: Splits, world: World) -> Surroundings:
    from quillrt.train.teaching import load_teacher
    from quillrt.train.training import Surroundings

    state, teacher = beside(path, "state"), None
    if chosen["resume"] and world.writes and not state.exists():
        note(f"nothing to resume at {state}: training from the start", chosen["quiet"])
    if chosen["teacher"]:
        paths = [file.path for file in chosen["teacher"]]
        teacher = load_teacher(paths, splits, chosen["teacher_weight"], chosen["temperature"])
    return Surroundings(tracker(chosen["quiet"]), state, chosen["resume"], world, teacher)
