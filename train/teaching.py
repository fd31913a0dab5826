"""Trained networks as the teacher of another: knowledge distillation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from quillrt.runtime.errors import ConfigError

from .checkpoint import load_checkpoint
from .datasets import Splits


class Ensemble(nn.Module):
    """Networks as one, whose logits (N, K) for grey levels 0..1 (N, 1, H, W) are the mean of theirs.

    Its probabilities are then the geometric mean of theirs, normalized: one of the two means by which G. Hinton,
    O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531, section 1, teach for many.

    Args:
        members: each a network, the mean that is subtracted from grey levels for its input, and the divisor after that.
    """

    scales: torch.Tensor

    def __init__(self, members: Iterable[tuple[nn.Module, float, float]]) -> None:
        super().__init__()
        modules, means, stds = zip(*members, strict=True)
        self.members = nn.ModuleList(modules)
        self.register_buffer("scales", torch.tensor([means, stds]).T)  # (members, 2)

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        """Return the mean of the members' logits, float32 whatever they compute in."""
        pairs = zip(self.members, self.scales, strict=True)
        return torch.stack([member((grey - mean) / std).float() for member, (mean, std) in pairs]).mean(0)


@dataclass(frozen=True)
class Teacher:
    """Trained networks to learn from.

    Attributes:
        module: the networks as one; none of them is trained.
        weight: share of its answers in the loss, the labels have the rest.
        temperature: by which both answers are softened.

    Raises:
        ConfigError: a number out of these bounds.
    """

    module: Ensemble
    weight: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not (0 <= self.weight <= 1 and 0 < self.temperature < math.inf):
            raise ConfigError(
                f"expected as weight of a teacher 0..1 and a positive temperature, "
                f"found {self.weight} and {self.temperature}"
            )


def load_teacher(paths: Sequence[Path], splits: Splits, weight: float, temperature: float) -> Teacher:
    """Return the networks in the checkpoints at ``paths``, one or several, as a teacher for trainings on ``splits``.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: one knows other classes or wants images of another size.
    """
    return Teacher(Ensemble([_member(path, splits) for path in paths]), weight, temperature)


def _member(path: Path, splits: Splits) -> tuple[nn.Module, float, float]:
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
    return checkpoint.module(), recipe.mean, recipe.std
