"""Which layers of a trained network stay as they are, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from quillrt.runtime.errors import ConfigError

from .models import layers


@dataclass(frozen=True)
class Freezing:
    """What is left alone in fine-tuning.

    Attributes:
        patterns: shell patterns on parameter names, as ``conv*``.
        head_only: train the last layer alone.
        unfreeze_every: begin with the last layer and let one more join, from the logits towards the image, each time so
            many epochs are over (Howard, Ruder, "Universal language model fine-tuning for text classification",
            arXiv 1801.06146); 0: all from the start.
    """

    patterns: tuple[str, ...] = ()
    head_only: bool = False
    unfreeze_every: int = 0

    def __post_init__(self) -> None:
        if self.unfreeze_every < 0:
            raise ConfigError(f"expected epochs between unfreezings, 0 for none, found {self.unfreeze_every}")
        if self.head_only and self.unfreeze_every:
            raise ConfigError("expected training of the head only or gradual unfreezing, found both; leave one out")

    def frozen(self, module: nn.Module, epoch: int) -> frozenset[str]:
        """Return the names of the parameters that stay as they are in ``epoch``, counted from 1."""
        groups = layers(module)
        depth = 1 if self.head_only else len(groups)
        if self.unfreeze_every:
            depth = 1 + (epoch - 1) // self.unfreeze_every
        below = {name for group in groups[: max(0, len(groups) - depth)] for name in group}
        names = [name for group in groups for name in group]
        return frozenset(below | {name for name in names if any(fnmatchcase(name, p) for p in self.patterns)})

    def check(self, module: nn.Module, new: set[str], epochs: int) -> None:
        """Raise unless every pattern matches a parameter, and the ``new`` ones are trained before the last epoch ends.

        Raises:
            ConfigError: a pattern matches nothing, or fresh weights stay as they are.
        """
        names = [name for name, _ in module.named_parameters()]
        for pattern in self.patterns:
            matched = [name for name in names if fnmatchcase(name, pattern)]
            if not matched:
                raise ConfigError(f"expected a pattern that matches one of {', '.join(names)}, found {pattern!r}")
            if fresh := new.intersection(matched):
                raise ConfigError(
                    f"expected a pattern that leaves fresh weights alone, "
                    f"but {pattern!r} freezes {', '.join(sorted(fresh))}"
                )
        if held := new & self.frozen(module, epochs):
            raise ConfigError(
                f"expected fresh weights to be trained, but {', '.join(sorted(held))} stay frozen; train all layers"
            )


def frozen_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the norms that are not trained: their statistics must stay, as their weights do.

    A norm without parameters goes with the layer before it.
    """
    trained = True
    for each in module.modules():
        if parameters := list(each.parameters(recurse=False)):
            trained = any(p.requires_grad for p in parameters)
        if not trained and getattr(each, "running_mean", None) is not None:
            yield each
