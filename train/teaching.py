"""A trained network as the teacher of another: knowledge distillation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from quillrt.runtime.errors import ConfigError

from .checkpoint import load_checkpoint
from .datasets import Splits


@dataclass(frozen=True)
class Teacher:
    """A trained network to learn from.

    Attributes:
        module: gives logits (N, K) for the same images; it is not trained.
        mean: subtracted from grey levels 0..1 for its input.
        std: divisor after that.
        weight: share of its answers in the loss, the labels have the rest.
        temperature: by which both answers are softened.

    Raises:
        ConfigError: a number out of these bounds.
    """

    module: nn.Module
    mean: float
    std: float
    weight: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not (0 <= self.weight <= 1 and 0 < self.temperature < math.inf):
            raise ConfigError(
                f"expected as weight of a teacher 0..1 and a positive temperature, "
                f"found {self.weight} and {self.temperature}"
            )


def load_teacher(path: Path, splits: Splits, weight: float, temperature: float) -> Teacher:
    """Return the network in the checkpoint at ``path`` as a teacher for trainings on ``splits``.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: it knows other classes or wants images of another size.
    """
    checkpoint = load_checkpoint(path)
    recipe, ours = checkpoint.spec.preprocessing, splits.preprocessing
    if checkpoint.spec.labels != splits.classes:
        raise ConfigError(
            f"expected a teacher of the classes {', '.join(splits.classes)}, "
            f"but {path} knows {', '.join(checkpoint.spec.labels)}; choose another --teacher or --classes"
        )
    theirs, wanted = ((r.height, r.width, r.denoise) for r in (recipe, ours))
    if theirs != wanted:
        raise ConfigError(
            f"expected a teacher for images of height, width and denoising {wanted}, but {path} takes {theirs}; "
            "choose another --teacher, or its --size and --denoise"
        )
    return Teacher(checkpoint.module(), recipe.mean, recipe.std, weight, temperature)
