"""Training a network on images held in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

from quillrt.runtime.errors import BackendUnavailable, ConfigError, QuillError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import character_spec

from .checkpoint import Checkpoint
from .config import SCHEDULES, TrainConfig
from .datasets import Splits
from .models import build_model
from .seeding import seeded

_CHECK_BATCH = 512  # images per forward pass where no gradient is kept


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to: mean loss, then accuracy (0..1) on the validation part."""

    number: int
    loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """The course of a training."""

    history: tuple[Epoch, ...]
    seconds: float


def train_new(
    model: str,
    splits: Splits,
    config: TrainConfig,
    track: Track = no_progress,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> Checkpoint:
    """Train the network called ``model`` from fresh weights and return its checkpoint.

    Raises:
        ConfigError: no network has this name.
        QuillError: see ``train``.
    """
    spec = character_spec(splits.classes, splits.preprocessing)
    with seeded(config.seed):
        module = build_model(model, len(spec.labels), spec.preprocessing.height, spec.preprocessing.width)
    result = train(module, splits, config, track, on_epoch)
    return Checkpoint.of(model, spec, module, {"config": asdict(config), **asdict(result)})


def train(
    module: nn.Module,
    splits: Splits,
    config: TrainConfig,
    track: Track = no_progress,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> TrainResult:
    """Train ``module`` in place and leave it in eval mode on the CPU with the weights of the last step.

    The validation part is only looked at: it chooses no weights. Parameters that want no gradient stay as they are.

    Raises:
        ConfigError: no parameter wants a gradient.
        BackendUnavailable: the device is not there.
        QuillError: the loss became infinite or NaN.
    """
    device = _device(config.device)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, labels = _tensors(splits.train, splits.preprocessing, device)
    optimizer = _optimizer(config, [p for p in module.parameters() if p.requires_grad])
    steps = config.epochs * math.ceil(len(inputs) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: SCHEDULES[config.schedule](step / steps))
    validation = _tensors(splits.validation, splits.preprocessing, device)

    started = time.perf_counter()
    history = []
    with seeded(config.seed):
        for number in range(1, config.epochs + 1):
            epoch_started = time.perf_counter()
            total = torch.zeros((), device=device)
            module.train()
            batches = torch.split(torch.randperm(len(inputs)).to(device), config.batch_size)
            for chosen in track(batches, f"epoch {number}/{config.epochs}", len(batches)):
                loss = functional.cross_entropy(module(inputs[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(chosen)
            mean_loss = total.item() / len(inputs)
            if not math.isfinite(mean_loss):
                raise QuillError(
                    f"expected a finite loss, found {mean_loss} in epoch {number}: training diverged; "
                    f"lower the learning rate (--lr, now {config.lr})"
                )
            right = _accuracy(module, *validation)
            history.append(Epoch(number, mean_loss, right, time.perf_counter() - epoch_started))
            if on_epoch:
                on_epoch(history[-1])
    module.to("cpu").eval()
    return TrainResult(tuple(history), time.perf_counter() - started)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("expected a CUDA device, but torch finds none; check the driver or use --device cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)


def _tensors(images: ImageSet, recipe: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs (N, 1, H, W) float32 and labels (N,) int64 on ``device``."""
    return torch.from_numpy(normalize(images.images, recipe)).to(device), torch.from_numpy(images.labels).to(device)


def _optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if not parameters:
        raise ConfigError("expected parameters to train, but all are frozen; freeze fewer")
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)


@torch.no_grad()
def _accuracy(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share (0..1) of right answers in eval mode."""
    module.eval()
    pairs = zip(torch.split(inputs, _CHECK_BATCH), torch.split(labels, _CHECK_BATCH), strict=True)
    return sum(int((module(x).argmax(1) == y).sum()) for x, y in pairs) / len(labels)
