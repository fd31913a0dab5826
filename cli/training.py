"""The verbs that make networks: train and finetune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.options import (
    Config,
    DataRoot,
    Dataset,
    Debug,
    Json,
    ModelDataset,
    Quiet,
    Seed,
    check_output,
    config_beside,
    save_config,
)
from quillrt.train.config import DEVICES, OPTIMIZERS, SCHEDULES, TrainConfig

if TYPE_CHECKING:
    from quillrt.train.checkpoint import Checkpoint
    from quillrt.train.datasets import Splits
    from quillrt.train.training import Epoch

Epochs = Annotated[int, typer.Option("--epochs", help="Passes over the training images.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images per step.")]
Optimizer = Annotated[str, typer.Option("--optimizer", help=", ".join(OPTIMIZERS) + ".")]
LearningRate = Annotated[float, typer.Option("--lr", help="Learning rate at the start.")]
Momentum = Annotated[float, typer.Option("--momentum", help="Momentum of sgd.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="Pull of the weights to zero.")]
Schedule = Annotated[str, typer.Option("--schedule", help="Learning rate over time: " + ", ".join(SCHEDULES) + ".")]
Device = Annotated[str, typer.Option("--device", help=", ".join(DEVICES) + "; auto takes a GPU if there is one.")]
TrainingThreads = Annotated[int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads.")]
Classes = Annotated[
    str | None, typer.Option("--classes", metavar="A,B,C", help="Use these labels of the data set only, in this order.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Checkpoint to write, .safetensors; default in runs/.")
]


def train(
    ctx: typer.Context,
    dataset: Dataset = "digits",
    data_root: DataRoot = None,
    model: Annotated[str, typer.Option("--model", help="Network to train: cnn.")] = "cnn",
    epochs: Epochs = TrainConfig.epochs,
    batch_size: BatchSize = TrainConfig.batch_size,
    optimizer: Optimizer = TrainConfig.optimizer,
    lr: LearningRate = TrainConfig.lr,
    momentum: Momentum = TrainConfig.momentum,
    weight_decay: WeightDecay = TrainConfig.weight_decay,
    schedule: Schedule = TrainConfig.schedule,
    seed: Seed = TrainConfig.seed,
    device: Device = TrainConfig.device,
    threads: TrainingThreads = None,
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Train a network from scratch and judge it on the test part."""
    from quillrt.train import training
    from quillrt.train.datasets import load_dataset

    settings, path = _start(ctx, output or Path("runs", f"{_file_name(dataset)}-{model}.safetensors"))
    splits = load_dataset(dataset, data_root)
    checkpoint = training.train_new(model, splits, settings, tracker(quiet), _epoch_line(quiet, settings))
    _finish(ctx, checkpoint, splits, dataset, path)


def finetune(
    ctx: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint (.safetensors) to start from.")],
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            "--freeze", metavar="PATTERN", help="Parameters to leave as they are, as 'conv*'; may be repeated."
        ),
    ] = None,
    classes: Classes = None,
    epochs: Epochs = 10,
    batch_size: BatchSize = TrainConfig.batch_size,
    optimizer: Optimizer = TrainConfig.optimizer,
    lr: LearningRate = 5e-4,
    momentum: Momentum = TrainConfig.momentum,
    weight_decay: WeightDecay = TrainConfig.weight_decay,
    schedule: Schedule = TrainConfig.schedule,
    seed: Seed = TrainConfig.seed,
    device: Device = TrainConfig.device,
    threads: TrainingThreads = None,
    output: Output = None,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Train a checkpoint on, also on other classes or with part of it frozen."""
    from quillrt.train import finetuning
    from quillrt.train.checkpoint import load_checkpoint
    from quillrt.train.datasets import load_dataset, recorded_name

    start = load_checkpoint(checkpoint)
    name = dataset or recorded_name(start.training) or "digits"
    settings, path = _start(ctx, output or Path("runs", f"{checkpoint.stem}-on-{_file_name(name)}.safetensors"))
    splits = _chosen(load_dataset(name, data_root, start.spec.preprocessing), classes)
    tuned = finetuning.finetune(
        start, splits, settings, freeze or (), track=tracker(quiet), on_epoch=_epoch_line(quiet, settings)
    )
    _finish(ctx, tuned, splits, name, path)


VERBS = (train, finetune)


def _file_name(dataset: str) -> str:
    """Return what to call files after a data set."""
    from quillrt.train.datasets import public_name

    return public_name(dataset).removeprefix("folder:")


def _start(ctx: typer.Context, output: Path) -> tuple[TrainConfig, Path]:
    """Return the settings from the options named like them, and ``output``, once it is known that it can be written."""
    settings = TrainConfig(**{field.name: ctx.params[field.name] for field in fields(TrainConfig)})
    check_output(output, ".safetensors")
    if threads := ctx.params["threads"]:
        import torch

        torch.set_num_threads(threads)
    return settings, output


def _chosen(splits: Splits, classes: str | None) -> Splits:
    return splits if classes is None else splits.only([name.strip() for name in classes.split(",")])


def _epoch_line(quiet: bool, settings: TrainConfig) -> Callable[[Epoch], None]:
    def line(epoch: Epoch) -> None:
        note(
            f"epoch {epoch.number}/{settings.epochs}: loss {epoch.loss:.4f}, "
            f"validation {epoch.validation_accuracy:.2%}, {epoch.seconds:.1f} s",
            quiet,
        )

    return line


def _finish(ctx: typer.Context, checkpoint: Checkpoint, splits: Splits, dataset: str, path: Path) -> None:
    """Save ``checkpoint`` and the configuration, and tell how good it is on the test part."""
    from quillrt.benchmarks.torch_sessions import EagerSession
    from quillrt.train.checkpoint import save_checkpoint
    from quillrt.train.datasets import public_name
    from quillrt.train.evaluation import evaluate as judge

    save_checkpoint(path, replace(checkpoint, training={"dataset": public_name(dataset), **checkpoint.training}))
    save_config(ctx, config_beside(path))
    with EagerSession(checkpoint) as session:
        result = judge(session, splits.test)
    said = {
        "path": str(path),
        "accuracy": result.accuracy,
        "n": result.n,
        "seconds": checkpoint.training["seconds"],
        "parameters": sum(parameter.numel() for parameter in checkpoint.module().parameters()),
    }
    if ctx.params["as_json"]:
        print_json(said)
        return
    columns = ("checkpoint", "test accuracy", "n", "training s", "parameters")
    row = (said["path"], f"{result.accuracy:.2%}", f"{result.n:,}", f"{said['seconds']:.1f}", f"{said['parameters']:,}")
    print_table(f"{checkpoint.model} on {dataset}", columns, [row])
