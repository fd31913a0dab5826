"""The learning rate over a training, as a factor on the highest rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LOWEST = 1e-3  # factor at the end of `exponential` and at the start and end of `one-cycle`
_RISE = 0.25  # share of `one-cycle` that goes up where no warm-up says otherwise
_PLATEAU_EPOCHS = 2  # `plateau` waits this many epochs for a lower validation loss
_PLATEAU_FACTOR = 0.5

# Factor over the share 0..1 of the steps that is done, warm-up apart.
# Cosine: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", arXiv 1608.03983. One-cycle:
# Smith, Topin, "Super-convergence", arXiv 1708.07120, with cosines for lines as torch's OneCycleLR has them.
# Plateau's own factor follows the validation loss, in ``Schedule``.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "exponential": lambda done: _LOWEST**done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "one-cycle": lambda done: _cosine(_LOWEST, 1, done / _RISE) if done < _RISE else _fall(done, _RISE),
    "plateau": lambda done: 1.0,
}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _fall(done: float, rise: float) -> float:
    return _cosine(1, _LOWEST, (done - rise) / (1 - rise))


@dataclass
class Schedule:
    """One training's learning rate.

    Attributes:
        name: one of ``SCHEDULES``.
        steps: of the whole training.
        warmup_steps: over which the factor rises in a line from near 0 to 1; `one-cycle` takes them for its rise.
    """

    name: str
    steps: int
    warmup_steps: int = 0
    _lowered: float = 1.0
    _best: float = math.inf
    _waited: int = 0

    def factor(self, step: int) -> float:
        """Return the factor on the highest learning rate for ``step``, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps * self._lowered
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        if self.name == "one-cycle" and self.warmup_steps:
            return _fall(done, 0)
        return SCHEDULES[self.name](done) * self._lowered

    def after_epoch(self, validation_loss: float) -> None:
        """Tell how the epoch ended: `plateau` halves the rate after two epochs without a lower loss."""
        if self.name != "plateau":
            return
        if validation_loss < self._best:
            self._best, self._waited = validation_loss, 0
            return
        self._waited += 1
        if self._waited >= _PLATEAU_EPOCHS:
            self._lowered, self._waited = self._lowered * _PLATEAU_FACTOR, 0

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs to go on."""
        return {"lowered": self._lowered, "best": self._best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._lowered, self._best, self._waited = state["lowered"], state["best"], state["waited"]
