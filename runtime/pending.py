"""The answer to a query that has been submitted and not yet waited for."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import BackendUnavailable


class Carrier(Protocol):
    """What brings a part of the logits."""

    def carries(self, pending: Pending) -> bool:
        """Tell whether a part of ``pending`` is on its way here."""

    def finish(self) -> None:
        """Wait for what is on its way, if anything is, and hand out its logits."""


class Pending:
    """Logits on their way; a query of more images than the engine takes is several parts.

    Attributes:
        logits: float32 (N, K); whole once nothing is on its way.
        error: why they will never be whole.
    """

    def __init__(self, images: int, labels: int) -> None:
        self.logits: NDArray[np.float32] = np.empty((images, labels), np.float32)
        self.error: BackendUnavailable | None = None
        self._lanes: list[Carrier] = []

    def sent_by(self, lane: Carrier) -> None:
        """Take note that a part is on its way over ``lane``."""
        self._lanes.append(lane)

    def result(self) -> NDArray[np.float32]:
        """Wait for the logits and return them.

        Raises:
            BackendUnavailable: the device failed.
        """
        while self._lanes and self.error is None:
            if self._lanes[0].carries(self):
                self._lanes[0].finish()
            del self._lanes[0]  # only now: after Ctrl-C it can be waited for again
        if self.error is not None:
            raise self.error
        return self.logits
