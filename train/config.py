"""How to train: plain settings, free of torch, so that the command line knows their defaults at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from quillrt.runtime.errors import ConfigError

OPTIMIZERS = ("adamw", "sgd")
DEVICES = ("auto", "cpu", "cuda")

# Factor on the learning rate over the finished share of all steps, 0..1.
# Cosine: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", arXiv 1608.03983.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        optimizer: one of ``OPTIMIZERS``.
        lr: learning rate at the start.
        momentum: of ``sgd``; ``adamw`` has its own.
        weight_decay: pull of the weights to zero.
        schedule: one of ``SCHEDULES``.
        seed: of weights, order and dropout; on one CPU with one thread count it repeats a training bit by bit.
        device: ``auto`` takes a GPU if there is one.
    """

    epochs: int = 15
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise ConfigError(f"expected as {name} one of {', '.join(known)}, found {value!r}")
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"epochs and batch size must be at least 1, but are {self.epochs} and {self.batch_size}")
        if not (0 < self.lr < math.inf and 0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise ConfigError(
                f"lr must be positive, momentum in 0..1 (1 excluded), weight decay not negative, "
                f"but are {self.lr}, {self.momentum} and {self.weight_decay}"
            )
