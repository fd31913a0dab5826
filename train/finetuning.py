"""Going on from trained weights: other data, other classes, part of the layers frozen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from quillrt.runtime.spec import character_spec

from .checkpoint import Checkpoint
from .config import TrainConfig
from .datasets import Splits
from .freezing import Freezing
from .models import build_model
from .quantization import Steps, make_aware, steps_of
from .seeding import seeded
from .training import OnCheckpoint, Surroundings, train_checkpoint


def finetune(
    checkpoint: Checkpoint,
    splits: Splits,
    config: TrainConfig,
    freezing: Freezing = Freezing(),
    classes: Sequence[str] | None = None,
    surroundings: Surroundings = Surroundings(),
    on_epoch: OnCheckpoint | None = None,
    fresh: Collection[str] = (),
    qat: Mapping[str, Steps] | None = None,
) -> Checkpoint:
    """Train on from ``checkpoint`` and return the new one.

    The preprocessing stays the checkpoint's, which its weights expect; only how images are fitted follows the data.

    Args:
        checkpoint: where to start.
        splits: what to train on; where its labels differ from the checkpoint's, the head is new.
        config: settings of the training.
        freezing: which layers stay as they are, and for how long.
        classes: use these labels of ``splits`` alone.
        surroundings: progress, resuming, other processes, a teacher.
        on_epoch: told after each epoch what the checkpoint would be.
        fresh: names of weights in ``checkpoint`` that nobody trained, so that none may stay frozen.
        qat: for quantization-aware training, how the input of each layer is rounded; the checkpoint records it, and
            compiling takes the ranges from there.

    Raises:
        ConfigError: unknown classes, a pattern that matches nothing or fresh weights, or nothing left to train.
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
    freezing.check(module, new_head.union(fresh), config.epochs)
    facts: dict[str, Any] = {
        "freeze": list(freezing.patterns),
        "head_only": freezing.head_only,
        "unfreeze_every": freezing.unfreeze_every,
        "started_from": checkpoint.training,
    }
    if qat is not None:
        make_aware(module, qat)
        facts["qat"] = {name: asdict(each) for name, each in steps_of(module).items()}
    splits = replace(splits, preprocessing=preprocessing)
    return train_checkpoint(checkpoint.model, spec, module, splits, config, surroundings, on_epoch, freezing, facts)


def _with_new_head(checkpoint: Checkpoint, classes: int, seed: int) -> tuple[nn.Module, set[str]]:
    """Return the network for that many classes with the checkpoint's other weights, and the head's parameter names.

    The head is what changes its shape with the class count.
    """
    recipe = checkpoint.spec.preprocessing
    with seeded(seed):  # for its shapes only
        wider = build_model(checkpoint.model, len(checkpoint.spec.labels) + 1, recipe.height, recipe.width)
    head = {name for name, tensor in wider.state_dict().items() if tensor.shape != checkpoint.weights[name].shape}
    with seeded(seed):
        module = build_model(checkpoint.model, classes, recipe.height, recipe.width)
    body = {name: tensor for name, tensor in checkpoint.weights.items() if name not in head}
    module.load_state_dict(body, strict=False)
    return module, head
