"""When a run has to end, and what that means for who is at work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic

from quillrt.runtime.errors import BackendUnavailable

from .process import NoAnswer

PATIENCE_S = 300.0  # a load or a first query may compile kernels, on a slow board for minutes
LAST_S = 30.0  # for what is under way when the time is up
LATE = "the time for the whole run was up"


@dataclass(frozen=True)
class Deadline:
    """The time, by ``monotonic``, after which nothing is begun."""

    until: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the one ``seconds`` from now; ``None``: there is none."""
        return cls(math.inf if seconds is None else monotonic() + seconds)

    def halfway(self) -> Deadline:
        """Return the one half the time from now on."""
        return Deadline((monotonic() + self.until) / 2)

    def late(self) -> str | None:
        """Return the reason of what would begin now, once the time is up."""
        return f"{LATE} before its turn" if monotonic() > self.until else None

    def patience_s(self, work_s: float = 0.0) -> float:
        """Return how long an answer may take that takes ``work_s`` itself; behind the end little is waited for."""
        return min(PATIENCE_S + work_s, max(self.until - monotonic(), 0.0) + LAST_S)

    def why(self, error: BackendUnavailable) -> str:
        """Return the reason of a failure; that the time was up is no fault of who was at work."""
        late = isinstance(error, NoAnswer) and monotonic() > self.until
        return f"{LATE} in its turn: {error}" if late else str(error)
