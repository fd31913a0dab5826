"""How to train: plain settings, free of torch, so that the command line knows their defaults at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from quillrt.runtime.errors import ConfigError

from .policies import Augmentation
from .schedules import SCHEDULES

OPTIMIZERS = ("adamw", "sgd")
DEVICES = ("auto", "cpu", "cuda")
CLASS_WEIGHTS = ("none", "balanced")
HIGHEST_LR = 1e36  # AdamW divides it by 0.1 at first and hands it on as float32, which ends at 3e38


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step, over all processes.
        optimizer: one of ``OPTIMIZERS``.
        lr: the highest learning rate, that of the last layer.
        momentum: of ``sgd``; ``adamw`` has its own.
        nesterov: let ``sgd`` look ahead.
        weight_decay: pull of the weights to zero; biases and norms are left alone.
        schedule: one of ``SCHEDULES``.
        warmup: epochs, also parts of one, over which the learning rate rises from zero.
        layer_decay: factor on the learning rate from each layer to the one before it.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: ``balanced`` weighs each class by the inverse of its number of images.
        mse_share: share of the mean squared error in the loss, the rest is cross entropy.
        augmentation: how the training images are varied.
        clip_norm: largest norm of the gradient; 0 leaves it.
        ema: decay per step of the moving average of the weights, which then is what is judged and kept; 0 for none.
        patience: stop after so many epochs without a better validation accuracy, and keep the best; 0 for never.
        amp: compute products in bfloat16 where torch thinks it safe.
        torch_compile: compile the network with torch.compile.
        seed: of weights, order, augmentation and dropout; on one CPU with one thread count it repeats a training bit by
            bit.
        device: ``auto`` takes a GPU if there is one.
    """

    epochs: int = 15
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 2e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    mse_share: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    clip_norm: float = 0.0
    ema: float = 0.0
    patience: int = 0
    amp: bool = False
    torch_compile: bool = False
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("class weights", self.class_weights, CLASS_WEIGHTS),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise ConfigError(f"expected as {name} one of {', '.join(known)}, found {value!r}")
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(f"epochs and batch size must be at least 1, but are {self.epochs} and {self.batch_size}")
        for name, number, fits, wanted in (
            ("lr", self.lr, 0 < self.lr <= HIGHEST_LR, f"in 0..{HIGHEST_LR:g} (0 excluded)"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "in 0..1 (1 excluded)"),
            ("weight decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "finite and not negative"),
            ("warm-up", self.warmup, 0 <= self.warmup < self.epochs, f"at least 0 and below {self.epochs}, the epochs"),
            ("layer decay", self.layer_decay, 0 < self.layer_decay <= 1, "in 0..1 (0 excluded)"),
            ("label smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "in 0..1 (1 excluded)"),
            ("share of the squared error", self.mse_share, 0 <= self.mse_share <= 1, "in 0..1"),
            ("gradient norm", self.clip_norm, 0 <= self.clip_norm < math.inf, "finite and not negative"),
            ("decay of the average", self.ema, 0 <= self.ema < 1, "in 0..1 (1 excluded)"),
            ("patience", self.patience, self.patience >= 0, "not negative"),
        ):
            if not fits:
                raise ConfigError(f"{name} must be {wanted}, but is {number}")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError("nesterov needs the optimizer sgd with a momentum; add --optimizer sgd --momentum 0.9")
