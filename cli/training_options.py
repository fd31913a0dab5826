"""What `train` and `finetune` have in common on the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from quillrt.cli.model_files import ModelFile, checkpoint_file
from quillrt.cli.options import Config, DataRoot, Debug, Json, Quiet, Seed
from quillrt.cli.verbs import Option, flag
from quillrt.runtime.errors import ConfigError
from quillrt.train.config import CLASS_WEIGHTS, DEVICES, OPTIMIZERS, TrainConfig
from quillrt.train.policies import POLICIES, Augmentation, policy
from quillrt.train.schedules import SCHEDULES

_AMOUNTS = ", ".join(field.name for field in fields(Augmentation))
AUGMENT = Annotated[str, typer.Option("--augment", help="How images are varied: " + ", ".join(POLICIES) + ".")]
VARY = Annotated[
    list[str] | None,
    typer.Option(
        "--vary", metavar="NAME=NUMBER", help=f"Change of the policy, as rotation=20; repeat. Names: {_AMOUNTS}."
    ),
]
SIZE = Annotated[int, typer.Option("--size", min=6, max=512, help="Rows and columns of the network's input.")]
DENOISE = Annotated[
    list[str] | None,
    typer.Option("--denoise", help="Step of preprocessing: median, gaussian, otsu or levels; repeat for several."),
]
_D = TrainConfig
_SETTINGS: dict[str, Option] = {
    "epochs": (flag(int, "--epochs", help="Passes over the training images."), _D.epochs),
    "batch_size": (flag(int, "--batch-size", help="Images per step, over all processes."), _D.batch_size),
    "optimizer": (flag(str, "--optimizer", help=", ".join(OPTIMIZERS) + "."), _D.optimizer),
    "lr": (flag(float, "--lr", help="Highest learning rate."), _D.lr),
    "momentum": (flag(float, "--momentum", help="Momentum of sgd."), _D.momentum),
    "nesterov": (flag(bool, "--nesterov", help="Let sgd look ahead."), _D.nesterov),
    "weight_decay": (flag(float, "--weight-decay", help="Pull of the weights to zero."), _D.weight_decay),
    "schedule": (flag(str, "--schedule", help="Learning rate: " + ", ".join(SCHEDULES) + "."), _D.schedule),
    "warmup": (flag(float, "--warmup", help="Epochs over which the learning rate rises."), _D.warmup),
    "layer_decay": (
        flag(float, "--layer-decay", help="Factor on the learning rate from each layer to the one before."),
        _D.layer_decay,
    ),
    "label_smoothing": (
        flag(float, "--label-smoothing", help="Share of the target spread over all classes."),
        _D.label_smoothing,
    ),
    "class_weights": (
        flag(str, "--class-weights", help=", ".join(CLASS_WEIGHTS) + ": each class counts the same."),
        _D.class_weights,
    ),
    "mse_share": (
        flag(float, "--mse-share", help="Share of the squared error in the loss; the rest is cross entropy."),
        _D.mse_share,
    ),
    "clip_norm": (flag(float, "--clip-norm", help="Largest norm of the gradient; 0: any."), _D.clip_norm),
    "ema": (flag(float, "--ema", help="Decay of a moving average of the weights, as 0.999; 0: none."), _D.ema),
    "patience": (
        flag(int, "--patience", help="Stop after so many epochs without a better validation accuracy; 0: never."),
        _D.patience,
    ),
    "amp": (flag(bool, "--amp", help="Products in bfloat16: faster where the processor has them."), _D.amp),
    "torch_compile": (flag(bool, "--torch-compile", help="Train through torch.compile."), _D.torch_compile),
    "seed": (Seed, _D.seed),
    "device": (flag(str, "--device", help=", ".join(DEVICES) + "; auto takes a GPU if there is one."), _D.device),
}
_AUGMENTATION: dict[str, Option] = {"augment": (AUGMENT, "none"), "vary": (VARY, None)}
_DATA: dict[str, Option] = {
    "data_root": (DataRoot, None),
    "classes": (
        flag(str | None, "--classes", metavar="A,B,C", help="Use these labels of the data set only, in this order."),
        None,
    ),
    "per_class": (
        flag(int | None, "--per-class", min=1, help="Train on this many images of each class, drawn by --seed."),
        None,
    ),
    "synthetic": (
        flag(Path | None, "--synthetic", help="Folder of quillrt synthesize: its images join the training part."),
        None,
    ),
}
_TEACHING: dict[str, Option] = {
    "teacher": (
        flag(
            list[ModelFile] | None,
            "--teacher",
            parser=checkpoint_file,
            metavar="CHECKPOINT",
            help="A network to learn from as well: a checkpoint or models:NAME; repeat for the mean of several.",
        ),
        None,
    ),
    "teacher_weight": (flag(float, "--teacher-weight", min=0, max=1, help="Share of its answers in the loss."), 0.5),
    "temperature": (flag(float, "--temperature", min=0.01, max=1000, help="Softens its answers and ours."), 4.0),
}
_RUNNING: dict[str, Option] = {
    "threads": (flag(int | None, "--threads", min=1, max=1024, help="CPU threads."), None),
    "resume": (
        flag(bool, "--resume", help="Go on where the training with the same options that writes --output was stopped."),
        False,
    ),
    "tensorboard": (flag(Path | None, "--tensorboard", help="Folder for TensorBoard's event files."), None),
    "output": (
        flag(Path | None, "--output", "-o", help="Checkpoint to write, .safetensors; default in runs/."),
        None,
    ),
    "as_json": (Json, False),
    "quiet": (Quiet, False),
    "config": (Config, None),
    "debug": (Debug, False),
}
OPTIONS: dict[str, Option] = {**_DATA, **_SETTINGS, **_AUGMENTATION, **_TEACHING, **_RUNNING}


def options(**defaults: Any) -> dict[str, Option]:
    """Return all of them, some with another default."""
    return {name: (kind, defaults.get(name, default)) for name, (kind, default) in OPTIONS.items()}


def settings(chosen: dict[str, Any]) -> TrainConfig:
    """Return the settings of a training from a verb's parameters.

    Raises:
        ConfigError: a value is out of bounds or unknown, or settings of a teacher come without one.
    """
    if not chosen["teacher"] and any(chosen[name] != _TEACHING[name][1] for name in ("teacher_weight", "temperature")):
        raise ConfigError("expected --teacher beside --teacher-weight and --temperature, found none; name a checkpoint")
    amounts = policy(chosen["augment"], chosen["vary"] or ())
    numbers = {field.name: chosen[field.name] for field in fields(TrainConfig) if field.name in _SETTINGS}
    return TrainConfig(**numbers, augmentation=amounts)
