"""Training a network on images held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import ModelSpec, character_spec

from .checkpoint import Checkpoint
from .config import TrainConfig
from .datasets import Splits
from .distributed import World
from .freezing import Freezing
from .loop import Epoch, Loop, Weights
from .models import build_model
from .seeding import seeded
from .state import fingerprint, load_state, save_state
from .teaching import Teacher

OnEpoch = Callable[[tuple[Epoch, ...], Weights], object]
OnCheckpoint = Callable[[Checkpoint], object]


@dataclass(frozen=True)
class Surroundings:
    """What a training has around it.

    Attributes:
        track: shows progress.
        state: file that holds the training after each epoch; it is removed at the end.
        resume: go on from ``state`` if it is there; on the same CPU and threads to the same weights, bit by bit.
        world: the processes that train together; each takes its share of every batch, the first one writes.
        teacher: networks whose answers are learned beside the labels.
    """

    track: Track = no_progress
    state: Path | None = None
    resume: bool = False
    world: World = field(default_factory=World)
    teacher: Teacher | None = None


def train(
    module: nn.Module,
    splits: Splits,
    config: TrainConfig,
    surroundings: Surroundings = Surroundings(),
    on_epoch: OnEpoch | None = None,
    freezing: Freezing = Freezing(),
) -> tuple[Epoch, ...]:
    """Train ``module`` in place, leave it in eval mode on the CPU with the weights to keep, return its course.

    Those weights are the last step's; with ``ema`` their moving average; with ``patience`` those of the epoch with the
    best validation accuracy. Without ``patience`` the validation part is only looked at: it chooses no weights.
    Parameters that want no gradient stay as they are.

    Args:
        module: images (N, 1, H, W) to logits (N, K).
        splits: what to train and to validate on.
        config: the settings.
        surroundings: progress, resuming, other processes, a teacher.
        on_epoch: told after each epoch what came so far and which weights would be kept now.
        freezing: which layers stay as they are, and for how long.

    Raises:
        ConfigError: no parameter wants a gradient, or batches have fewer images than there are processes.
        BackendUnavailable: the device, or the compiler that torch.compile needs, is not there.
        CheckpointError: the state to resume from is damaged or of another training.
        QuillError: the loss became infinite or NaN.
        OSError: the state cannot be written.
    """
    state, world = surroundings.state, surroundings.world
    mark = fingerprint(module, splits, config, freezing, surroundings.teacher)
    loop = Loop(module, splits, config, freezing, surroundings.teacher, world)
    with seeded(config.seed + world.rank):
        if state is not None and surroundings.resume:
            # Only the first process has the file where each machine has its own disk.
            found = load_state(state, mark) if world.writes and state.exists() else None
            if (shared := world.gather(found)[0]) is not None:
                loop.restore(shared)
        while not loop.finished:
            loop.epoch(surroundings.track)
            if state is not None:
                whole = loop.state()  # asks all processes for theirs
                if world.writes:
                    save_state(state, mark, whole)
            if on_epoch and world.writes:
                on_epoch(loop.history, loop.kept())
    loop.finish()
    if state is not None and world.writes:
        state.unlink(missing_ok=True)
    return loop.history


def train_checkpoint(
    model: str,
    spec: ModelSpec,
    module: nn.Module,
    splits: Splits,
    config: TrainConfig,
    surroundings: Surroundings = Surroundings(),
    on_epoch: OnCheckpoint | None = None,
    freezing: Freezing = Freezing(),
    facts: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Train ``module``, the network called ``model``, and return its checkpoint; ``on_epoch`` gets one each epoch.

    Args:
        model: the network's name, see ``build_model``.
        spec: what goes in and comes out.
        module: as for ``train``, like the rest.
        splits: as for ``train``.
        config: as for ``train``.
        surroundings: as for ``train``.
        on_epoch: told after each epoch what the checkpoint would be.
        freezing: as for ``train``.
        facts: what else the record of the training shall say.

    Raises:
        QuillError: see ``train``.
    """

    def checkpoint(history: tuple[Epoch, ...], weights: Weights) -> Checkpoint:
        course = {"history": [asdict(epoch) for epoch in history], "seconds": sum(epoch.seconds for epoch in history)}
        return Checkpoint.of(model, spec, weights, {"config": asdict(config), **course, **(facts or {})})

    def tell(history: tuple[Epoch, ...], weights: Weights) -> None:
        if on_epoch:
            on_epoch(checkpoint(history, weights))

    history = train(module, splits, config, surroundings, tell, freezing)
    return checkpoint(history, module.state_dict())


def train_new(
    model: str,
    splits: Splits,
    config: TrainConfig,
    surroundings: Surroundings = Surroundings(),
    on_epoch: OnCheckpoint | None = None,
) -> Checkpoint:
    """Train the network called ``model`` from fresh weights and return its checkpoint.

    Raises:
        ConfigError: no network has this name.
        QuillError: see ``train``.
    """
    spec = character_spec(splits.classes, splits.preprocessing)
    with seeded(config.seed):
        module = build_model(model, len(spec.labels), spec.preprocessing.height, spec.preprocessing.width)
    return train_checkpoint(model, spec, module, splits, config, surroundings, on_epoch)
