"""Going on from trained weights: other data, other classes, part of the layers frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from quillrt.runtime.errors import ConfigError
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import character_spec

from .checkpoint import Checkpoint
from .config import TrainConfig
from .datasets import Splits
from .models import build_model
from .seeding import seeded
from .training import Epoch, train


def finetune(
    checkpoint: Checkpoint,
    splits: Splits,
    config: TrainConfig,
    freeze: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    track: Track = no_progress,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> Checkpoint:
    """Train on from ``checkpoint`` and return the new one.

    The preprocessing stays the checkpoint's, which its weights expect; only how images are fitted follows the data.

    Args:
        checkpoint: where to start.
        splits: what to train on; where its labels differ from the checkpoint's, the head is new.
        config: settings of the training.
        freeze: shell patterns on parameter names, as ``conv*``; what they match stays bit by bit.
        classes: use these labels of ``splits`` alone.
        track: shows progress.
        on_epoch: told of each epoch.

    Raises:
        ConfigError: unknown classes, a pattern that matches nothing or a new head, or nothing left to train.
        QuillError: see ``train``.
    """
    if classes is not None:
        splits = splits.only(classes)
    preprocessing = replace(checkpoint.spec.preprocessing, fit=splits.preprocessing.fit)
    spec = character_spec(splits.classes, preprocessing)
    module = checkpoint.module()
    new_head: set[str] = set()
    if spec.labels != checkpoint.spec.labels:
        module, new_head = _with_new_head(checkpoint, len(spec.labels), config.seed)
    _freeze(module, freeze, new_head)
    result = train(module, replace(splits, preprocessing=preprocessing), config, track, on_epoch)
    training = {"config": asdict(config), **asdict(result), "freeze": list(freeze), "started_from": checkpoint.training}
    return Checkpoint.of(checkpoint.model, spec, module, training)


def _with_new_head(checkpoint: Checkpoint, classes: int, seed: int) -> tuple[nn.Module, set[str]]:
    """Return the network for that many classes with the checkpoint's other weights, and the head's parameter names.

    The head is what changes its shape with the class count.
    """
    recipe = checkpoint.spec.preprocessing
    with torch.device("meta"):  # shapes only
        wider = build_model(checkpoint.model, len(checkpoint.spec.labels) + 1, recipe.height, recipe.width)
    head = {name for name, tensor in wider.state_dict().items() if tensor.shape != checkpoint.weights[name].shape}
    with seeded(seed):
        module = build_model(checkpoint.model, classes, recipe.height, recipe.width)
    body = {name: tensor for name, tensor in checkpoint.weights.items() if name not in head}
    module.load_state_dict(body, strict=False)
    return module, head


def _freeze(module: nn.Module, patterns: Sequence[str], new_head: set[str]) -> None:
    names = dict(module.named_parameters())
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise ConfigError(f"expected a pattern that matches one of {', '.join(names)}, found {pattern!r}")
        if fresh := new_head.intersection(matched):
            raise ConfigError(
                f"expected a pattern that leaves the new head alone, but {pattern!r} freezes {', '.join(sorted(fresh))}"
            )
        for name in matched:
            names[name].requires_grad_(False)
