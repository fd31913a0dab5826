"""A trained network as the teacher of another: knowledge distillation."""

from __future__ import annotations

from pathlib import Path

from quillrt.runtime.errors import ConfigError

from .checkpoint import load_checkpoint
from .datasets import Splits
from .loop import Teacher


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
            "choose another --teacher"
        )
    return Teacher(checkpoint.module(), recipe.mean, recipe.std, weight, temperature)
