"""Contestants side by side: each in a process of its own, taking turns, under one clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.trt_layers import LayerTime

from .contestants import Contestant
from .process import NoAnswer, Remote
from .results import Agreement, Measured, Row
from .statistics import median_of_medians, percentiles, queries_needed

REFERENCES = ("eager fp32", "onnxruntime-cpu fp32")
PATIENCE_S = 300.0  # a load or a first query may compile kernels, on a slow board for minutes
LAST_S = 30.0  # for what is under way when the time is up
LATE = "the time for the whole run was up"

_LONGEST = 3600


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        batches: images in a query; each contestant gets a row for each.
        seconds: measured per row, warm-up not counted.
        rounds: in how many turns that time is spent; all contestants take turns, so that a disturbance meets all.
        threads: CPU threads inside one query.
        device: index of the GPU.
        layers: also time each layer, where a library tells.
        whole_s: seconds after which no row is begun, and half of which may go to loading; what is left over gets that
            as its reason, and so does whoever takes ``LAST_S`` longer. ``None``: no end.
    """

    batches: tuple[int, ...] = (1, 64)
    seconds: float = 3.0
    rounds: int = 5
    threads: int = 1
    device: int = 0
    layers: bool = False
    whole_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= _LONGEST:
            raise ConfigError(f"expected above 0 and up to {_LONGEST} seconds per row, found {self.seconds}")

    @property
    def least_queries(self) -> int:
        """Queries in a round: a slow row, too, can then state its 90th percentile."""
        return -(-queries_needed(0.9) // self.rounds)


def measure(
    contestants: Sequence[Contestant],
    images: NDArray[np.float32],
    settings: Settings,
    log: Path,
    track: Track = no_progress,
) -> tuple[Row, ...]:
    """Measure every contestant on ``images`` float32 (N, C, H, W) at every batch size, in the order given.

    A contestant that cannot run, dies or hangs gets a row with its reason; the others go on. What the libraries print
    is appended to ``log``.
    """
    return rows_of(attempts_of(contestants, images, settings, log, track))


def attempts_of(
    contestants: Sequence[Contestant],
    images: NDArray[np.float32],
    settings: Settings,
    log: Path,
    track: Track = no_progress,
) -> list[Attempt]:
    """Measure as ``measure`` does and return what ``rows_of`` makes rows of; all their processes have ended."""
    options = SessionOptions(settings.threads, settings.device)
    now = monotonic()
    until = math.inf if settings.whole_s is None else now + settings.whole_s
    with ExitStack() as stack:
        entrants = [
            _enter(contestant, images, options, log, (now + until) / 2, stack)  # what is loaded is to be measured, too
            for contestant in track(contestants, "load", len(contestants))
        ]
        return [
            attempt for batch in settings.batches for attempt in _attempt_batch(entrants, batch, settings, until, track)
        ]


def rows_of(attempts: Sequence[Attempt], beside: Sequence[Attempt] = ()) -> tuple[Row, ...]:
    """Return the rows of ``attempts``, by batch size, compared with each other and with ``beside``, measured before.

    The first of both that ran at a batch size is the one whose answers the others are held against.
    """
    rows: list[Row] = []
    for batch in dict.fromkeys(attempt.batch for attempt in attempts):
        before = [attempt for attempt in beside if attempt.batch == batch]
        alike = [*before, *(attempt for attempt in attempts if attempt.batch == batch)]
        reference = next((attempt for attempt in alike if attempt.reason is None), None)
        rows += with_speedups([_row(attempt, reference) for attempt in alike])[len(before) :]
    return tuple(rows)


@dataclass(frozen=True)
class _Entrant:
    """A contestant in its process, or the reason why it has none."""

    contestant: Contestant
    reason: str | None
    remote: Remote | None = None
    open_ms: float = 0.0


def _enter(
    contestant: Contestant,
    images: NDArray[np.float32],
    options: SessionOptions,
    log: Path,
    until: float,
    stack: ExitStack,
) -> _Entrant:
    if reason := contestant.reason or _late(until):
        return _Entrant(contestant, reason)
    remote = stack.enter_context(Remote("quillrt.benchmarks.worker:Bench", log, contestant.name, options.threads))
    try:
        return _Entrant(contestant, None, remote, remote.ask(_patience_s(until), "open", contestant, images, options))
    except BackendUnavailable as error:
        remote.close()
        return _Entrant(contestant, _why(error, until))


def _late(until: float) -> str | None:
    return f"{LATE} before its turn" if monotonic() > until else None


def _patience_s(until: float, work_s: float = 0.0) -> float:
    """Return how long an answer may take that takes ``work_s`` itself; after ``until`` little is waited for."""
    return min(PATIENCE_S + work_s, max(until - monotonic(), 0.0) + LAST_S)


def _why(error: BackendUnavailable, until: float) -> str:
    """Return the reason of a failure; that the time was up is no fault of who was at work."""
    return f"{LATE} in its turn: {error}" if isinstance(error, NoAnswer) and monotonic() > until else str(error)


class Attempt:
    """One row in the making; at its first failure it takes that reason and asks no more."""

    def __init__(self, entrant: _Entrant, batch: int, until: float) -> None:
        self.entrant, self.batch = entrant, batch
        self.reason = entrant.reason or _late(until)
        self._until = until
        self.first_ms = 0.0
        self.logits: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.rounds: list[tuple[list[int], int]] = []
        self.device_ms: Mapping[str, float] | None = None
        self.layers: tuple[LayerTime, ...] | str = ()

    def ask(self, name: str, *args: Any, work_s: float = 0.0) -> Any:
        if self.reason is None and self.entrant.remote is not None:
            try:
                return self.entrant.remote.ask(_patience_s(self._until, work_s), name, *args)
            except BackendUnavailable as error:
                self.reason = _why(error, self._until)
        return None


def _attempt_batch(
    entrants: Sequence[_Entrant], batch: int, settings: Settings, until: float, track: Track
) -> list[Attempt]:
    attempts = []
    for entrant in (entrant for entrant in entrants if entrant.contestant.batch in (None, batch)):
        attempt = Attempt(entrant, batch, until)
        attempts.append(attempt)
        if answer := attempt.ask("check", batch):
            attempt.first_ms, attempt.logits = answer
    turns = attempts * settings.rounds  # A B C A B C
    seconds = settings.seconds / settings.rounds
    for attempt in track(turns, f"batch {batch}", len(turns)):
        if answer := attempt.ask("round", batch, seconds, settings.least_queries, work_s=10 * seconds):
            attempt.rounds.append(answer)
    for attempt in attempts:
        attempt.device_ms = attempt.ask("device_ms", batch)
        if settings.layers:
            attempt.layers = attempt.ask("layers", batch) or ()
    return attempts


def _row(attempt: Attempt, reference: Attempt | None) -> Row:
    contestant = attempt.entrant.contestant
    batch = attempt.batch
    row = Row(contestant.backend, contestant.precision, batch, attempt.reason, variant=contestant.variant)
    if attempt.reason is not None or reference is None:
        return row
    rounds_ms = [[ns / 1e6 for ns in latencies] for latencies, _ in attempt.rounds]
    pooled = [ms for latencies in rounds_ms for ms in latencies]
    wall_s = sum(wall for _, wall in attempt.rounds) / 1e9
    measured = Measured(
        open_ms=attempt.entrant.open_ms,
        first_query_ms=attempt.first_ms,
        queries=len(pooled),
        wall_s=wall_s,
        images_per_second=len(pooled) * batch / wall_s,
        median_ms=median_of_medians(rounds_ms),
        round_medians_ms=tuple(median(latencies) for latencies in rounds_ms),
        percentiles_ms=percentiles(pooled),
        agreement=compare(attempt.logits, reference.logits, reference.entrant.contestant.name),
        device_ms=attempt.device_ms,
        latencies_ns=tuple(tuple(latencies) for latencies, _ in attempt.rounds),
        layers=() if isinstance(attempt.layers, str) else attempt.layers,
        no_layers=attempt.layers if isinstance(attempt.layers, str) else None,
    )
    return replace(row, measured=measured)


def compare(logits: NDArray[np.float32], reference: NDArray[np.float32], name: str) -> Agreement:
    """Return how ``logits`` float32 (N, K) stand to those of the row ``name``."""
    difference = np.abs(logits.astype(np.float64) - reference)
    spread = np.linalg.norm(reference - reference.mean(axis=0, dtype=np.float64))
    return Agreement(
        reference=name,
        images=len(logits),
        same_label=float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        max_difference=float(difference.max()),
        relative_error=float(np.linalg.norm(difference) / (spread or 1.0)),
    )


def with_speedups(rows: Sequence[Row]) -> list[Row]:
    """Add to each measured row of one batch size how many times as fast it is as each of ``REFERENCES``, by medians."""
    medians = {row.name: row.measured.median_ms for row in rows if row.measured and row.name in REFERENCES}
    return [
        replace(row, speedup={name: ms / row.measured.median_ms for name, ms in medians.items()})
        if row.measured
        else row
        for row in rows
    ]
