"""How to train a GAN: plain settings, free of torch, so that the command line knows their defaults at once."""

from __future__ import annotations

from dataclasses import dataclass

from quillrt.runtime.errors import ConfigError

from .config import DEVICES, HIGHEST_LR


@dataclass(frozen=True)
class GanConfig:
    """Settings of a GAN's training.

    Attributes:
        steps: updates of either network.
        batch_size: real images per step, and as many generated ones; even, for they come in pairs of one class.
        lr: learning rate of both networks at the start; it falls to zero over the last part of the steps.
        seed: of weights, order, noise and augmentation; on one CPU with one thread count it repeats a training.
        device: ``auto`` takes a GPU if there is one.
    """

    steps: int = 3_000
    batch_size: int = 64
    lr: float = 4e-4
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ConfigError(f"expected as device one of {', '.join(DEVICES)}, found {self.device!r}")
        if self.steps < 1 or self.batch_size < 2 or self.batch_size % 2:
            raise ConfigError(
                f"steps must be at least 1 and the batch size even and at least 2, "
                f"but are {self.steps} and {self.batch_size}"
            )
        if not 0 < self.lr <= HIGHEST_LR:
            raise ConfigError(f"lr must be in 0..{HIGHEST_LR:g} (0 excluded), but is {self.lr}")
