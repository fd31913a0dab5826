"""One training step by step: forward, backward, validation, and how far it got."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from quillrt.runtime.errors import ConfigError, QuillError
from quillrt.runtime.progress import Track, no_progress

from .augmentation import build_augmentation
from .averaging import averaged
from .config import TrainConfig
from .datasets import Splits
from .devices import check_compiler, choose_device
from .distributed import World, synchronized
from .freezing import Freezing, frozen_norms
from .losses import Loss, balanced_weights, distillation
from .optimizers import build_optimizer
from .resident import ResidentImages
from .schedules import Schedule
from .teaching import Teacher

Weights = dict[str, torch.Tensor]
_CHECK_BATCH = 512  # images per forward pass where no gradient is kept


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to.

    Attributes:
        number: from 1.
        lr: highest learning rate of the last step.
        loss: mean over the training images, as they were varied, while the weights moved.
        accuracy: share (0..1) of right answers on those.
        validation_loss: mean on the validation part, of the weights that would be kept.
        validation_accuracy: share (0..1) of right answers there.
        seconds: of the pass, with its validation.
    """

    number: int
    lr: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


class Loop:
    """One training: its network, its optimizer, and how far it got."""

    def __init__(
        self,
        module: nn.Module,
        splits: Splits,
        config: TrainConfig,
        freezing: Freezing,
        teacher: Teacher | None,
        world: World,
    ) -> None:
        device = choose_device(config.device)
        if config.torch_compile:
            check_compiler(device.type)
        self._config, self._device, self._world = config, device, world
        if world.size > 1:
            module = synchronized(module, device)
        self._module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._runner: Callable[[torch.Tensor], torch.Tensor] = self._module
        self._wanted = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._freezing = freezing
        self._frozen: frozenset[str] | None = None
        if self._wanted and self._wanted <= freezing.frozen(module, 1):
            raise ConfigError("expected parameters to train in the first epoch, but all are frozen; freeze fewer")
        self._freeze(freezing.frozen(module, config.epochs))  # the optimizer has all that will ever be trained
        self._optimizer = build_optimizer(self._module, config)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._average = averaged(self._module, config.ema) if config.ema else None
        self._best: Weights | None = None
        self._train = ResidentImages(splits.train, splits.preprocessing, device)
        self._validation = ResidentImages(splits.validation, splits.preprocessing, device)
        labels = self._train.labels
        balanced = config.class_weights == "balanced"
        weights = balanced_weights(labels, len(splits.classes)) if balanced else None
        self._loss = Loss(config.mse_share, config.label_smoothing, weights).to(device)
        self._augment = build_augmentation(config.augmentation)
        self._teacher = teacher
        if teacher is not None:
            known = teacher.module.requires_grad_(False).eval()
            known.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A last batch with fewer images than processes would leave one of them without: its images wait.
        self._batches = [n for n in _sizes(len(labels), config.batch_size) if n >= world.size]
        if not self._batches:
            raise ConfigError(
                f"expected batches of {world.size} images at least, one for each process, "
                f"found --batch-size {config.batch_size} and {len(labels)} training images; start fewer processes"
            )
        per_epoch = len(self._batches)
        self._schedule = Schedule(config.schedule, config.epochs * per_epoch, round(config.warmup * per_epoch))
        self._order = torch.Generator().manual_seed(config.seed)  # the same in all processes
        self.history: tuple[Epoch, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or ``patience`` is."""
        patience = self._config.patience
        waited = len(self.history) - self._best_epoch()
        return len(self.history) >= self._config.epochs or (patience > 0 and waited >= patience)

    def _best_epoch(self) -> int:
        """Return the number of the epoch with the best validation accuracy, the first of equals; 0 before any."""
        return max(self.history, key=lambda e: e.validation_accuracy).number if self.history else 0

    def epoch(self, track: Track) -> None:
        """Pass over the training images once, then validate."""
        started = time.perf_counter()
        number = len(self.history) + 1
        self._prepare(number)
        total, right = torch.zeros((), device=self._device), torch.zeros((), device=self._device)
        order = torch.randperm(len(self._train.labels), generator=self._order).to(self._device)
        batches = torch.split(order[: sum(self._batches)], self._batches)
        step = (number - 1) * len(batches)
        for batch in (track if self._world.writes else no_progress)(
            batches, f"epoch {number}/{self._config.epochs}", len(batches)
        ):
            loss, correct = self._step(batch, step)
            total += loss * len(batch)
            right += correct
            step += 1
        seen = sum(self._batches)
        mean_loss, accuracy = (self._world.total(each).item() / seen for each in (total, right))
        validation_loss, validation_accuracy = self._validate()
        if not math.isfinite(mean_loss + validation_loss):
            raise QuillError(
                f"expected a finite loss, found {mean_loss} in epoch {number} and {validation_loss} after it: "
                f"training diverged; lower the learning rate (--lr, now {self._config.lr})"
            )
        self._schedule.after_epoch(validation_loss)
        lr = max(group["lr"] for group in self._optimizer.param_groups)
        seconds = time.perf_counter() - started
        self.history += (Epoch(number, lr, mean_loss, accuracy, validation_loss, validation_accuracy, seconds),)
        if self._config.patience and self._best_epoch() == number:
            self._best = {name: tensor.clone() for name, tensor in self._current().state_dict().items()}

    def _prepare(self, number: int) -> None:
        """Freeze what this epoch leaves alone, and wrap the network for those that train together."""
        frozen = self._freezing.frozen(self._module, number)
        if frozen != self._frozen:
            self._frozen = frozen
            self._freeze(frozen)
            runner: nn.Module = self._module
            if self._world.size > 1:
                runner = DistributedDataParallel(runner)
            self._runner = torch.compile(runner, dynamic=False) if self._config.torch_compile else runner
        self._module.train()
        for norm in frozen_norms(self._module):
            norm.eval()  # or its running mean and variance would still move

    def _freeze(self, frozen: frozenset[str]) -> None:
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(name in self._wanted and name not in frozen)

    def _step(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from this process's share of ``batch``; return its part of the mean loss, and its right answers."""
        config, mine = self._config, self._world.share(batch)
        labels = self._train.labels[mine]
        grey = self._train.grey(mine)
        if self._augment is not None:
            grey = self._augment(grey)
        lower = torch.autocast(self._device.type, torch.bfloat16, enabled=config.amp)
        with lower:
            logits = self._runner(self._train.normalized(grey)).float()
        losses = self._loss(logits, labels)
        if (teacher := self._teacher) is not None:
            with torch.no_grad(), lower:
                answers = teacher.module(grey)
            taught = distillation(logits, answers, teacher.temperature)
            losses = (1 - teacher.weight) * losses + teacher.weight * taught
        weights = self._loss.weights(labels)
        # The mean over the whole batch, though only a share of it is here.
        loss = (losses * weights).sum() / self._loss.weights(self._train.labels[batch]).sum()
        self._optimizer.zero_grad()
        (loss * self._world.size).backward()  # gradients are averaged over processes
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self._module.parameters(), config.clip_norm)
        factor = self._schedule.factor(step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self._module)
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Return mean loss and accuracy (0..1) on the validation part, of the weights that would be kept."""
        module = self._current().eval()
        mine = self._world.share(torch.arange(len(self._validation.labels), device=self._device))
        sums = torch.zeros(2, device=self._device)
        for chosen in torch.split(mine, _CHECK_BATCH):
            labels = self._validation.labels[chosen]
            logits = module(self._validation.normalized(self._validation.grey(chosen)))
            sums += torch.stack([self._loss(logits, labels).sum(), (logits.argmax(1) == labels).sum()])
        loss, accuracy = (self._world.total(sums) / len(self._validation.labels)).tolist()
        return loss, accuracy

    def _current(self) -> nn.Module:
        return self._module if self._average is None else self._average.module

    def kept(self) -> Weights:
        """Return the weights to keep, as far as the training went."""
        return self._current().state_dict() if self._best is None else self._best

    def finish(self) -> None:
        """Leave the network on the CPU in eval mode with the weights to keep, as trainable as it came."""
        self._module.load_state_dict(self.kept())
        self._freeze(frozenset())
        self._module.to("cpu").eval()

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs to go on after this epoch; all processes must ask for it."""
        return {
            "module": self._module.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state(),
            "order": self._order.get_state(),
            "random": self._world.gather(_random_state(self._device)),
            "history": [asdict(epoch) for epoch in self.history],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._module.load_state_dict(state["module"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._best = state["best"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.restore(state["schedule"])
        self._order.set_state(state["order"])
        own = state["random"][self._world.rank % len(state["random"])]
        torch.set_rng_state(own["cpu"])
        if self._device.type == "cuda" and "cuda" in own:  # not if it was interrupted on a CPU
            torch.cuda.set_rng_state(own["cuda"], self._device)
        self.history = tuple(Epoch(**epoch) for epoch in state["history"])


def _sizes(images: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of an epoch; the last may be smaller.

    A last image that would be alone waits: a batch norm may have nothing to compare it with.
    """
    whole, rest = divmod(images, batch_size)
    return [batch_size] * whole + [rest] * (rest > 1 or (rest == 1 and not whole))


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state if device.type == "cpu" else {**state, "cuda": torch.cuda.get_rng_state(device)}
