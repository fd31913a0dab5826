"""Contestants side by side: each in a process of its own, taking turns, under one clock."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.session import SessionOptions

from .arrivals import queries_of, search, trial
from .attempts import Attempt, row_of
from .contestants import Contestant
from .deadline import Deadline
from .energy import find_meter
from .measured import Trial
from .process import Remote
from .results import Row
from .rotation import Files, laid_out, plan
from .scenarios import SCENARIOS, Scenario, scenario_of
from .worker import Ran

_LONGEST = 3600
_MOST_WARMUP_S = 5.0
_LEAST_WARMUP_S = 0.1


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        batches: images in a query; each contestant gets a row for each.
        seconds: measured per row, warm-up not counted; of ``server``, about that for each step of the search.
        rounds: in how many turns that time is spent; all contestants take turns, so that a disturbance meets all.
        threads: CPU threads inside one query.
        device: index of the GPU.
        layers: also time each layer, where a library tells.
        whole_s: seconds after which no row is begun, and half of which may go to loading; what is left over gets that
            as its reason, and so does whoever takes ``deadline.LAST_S`` longer. ``None``: no end.
        scenario: one of ``SCENARIOS``.
        builds: how many times every session is made anew, in a new process; engines that can be are built again.
        latency_bound_ms: of ``server``, what the 99th percentile has to hold.
        seed: of the arrivals.
        checked_queries: most queries whose answers are compared; large batches thus compare all images.
    """

    batches: tuple[int, ...] = SCENARIOS["single-stream"].batches
    seconds: float = 3.0
    rounds: int = 5
    threads: int = 1
    device: int = 0
    layers: bool = False
    whole_s: float | None = None
    scenario: str = "single-stream"
    builds: int = 1
    latency_bound_ms: float | None = None
    seed: int = 0
    checked_queries: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= _LONGEST:
            raise ConfigError(f"expected above 0 and up to {_LONGEST} seconds per row, found {self.seconds}")
        scenario_of(self.scenario)
        if not 1 <= self.builds <= self.rounds:
            raise ConfigError(
                f"expected 1 to {self.rounds} builds, a round each at least, found {self.builds}; give more --rounds"
            )
        bound = self.latency_bound_ms
        if (self.scenario == "server") != (bound is not None):
            said = "found none; give --latency-bound-ms" if bound is None else f"found {bound} for {self.scenario}"
            raise ConfigError(f"expected a latency bound for the scenario server alone, {said}")
        if bound is not None and not 0 < bound < 1e3 * _LONGEST:
            raise ConfigError(f"expected a latency bound above 0 ms, found {bound}")

    @property
    def how(self) -> Scenario:
        """The scenario."""
        return scenario_of(self.scenario)

    @property
    def least_queries(self) -> int:
        """Queries in a round: a slow row, too, can then state the scenario's percentile."""
        return -(-self.how.least_queries // self.rounds)

    @property
    def round_s(self) -> float:
        """Seconds of a round."""
        return self.seconds / self.rounds

    def rounds_of(self, build: int) -> range:
        """Return the numbers of the rounds that ``build`` runs; the first builds get what does not divide."""
        share, rest = divmod(self.rounds, self.builds)
        first = build * share + min(build, rest)
        return range(first, first + share + (build < rest))


def measure(
    contestants: Sequence[Contestant],
    images: NDArray[np.float32],
    settings: Settings,
    log: Path,
    track: Track = no_progress,
    labels: NDArray[np.int64] | None = None,
) -> tuple[Row, ...]:
    """Measure every contestant on ``images`` float32 (N, C, H, W) at every batch size, in the order given.

    A contestant that cannot run, dies or hangs gets a row with its reason; the others go on. What the libraries print
    is appended to ``log``. With ``labels`` int64 (N,) each row states its accuracy. Nothing is judged yet:
    ``comparing.judged`` does that.
    """
    return rows_of(attempts_of(contestants, images, settings, log, track, labels))


def attempts_of(
    contestants: Sequence[Contestant],
    images: NDArray[np.float32],
    settings: Settings,
    log: Path,
    track: Track = no_progress,
    labels: NDArray[np.int64] | None = None,
) -> list[Attempt]:
    """Measure as ``measure`` does and return what ``rows_of`` makes rows of; all their processes have ended."""
    run = _Run(settings, log, track)
    groups = [
        [
            Attempt(contestant, batch, run.deadline, settings.scenario, labels)
            for batch in settings.batches
            if contestant.batch in (None, batch)
        ]
        for contestant in contestants
    ]
    with laid_out(images, plan(images, "").images) as files:
        for build in range(settings.builds):
            run.build(build, groups, files)
    return _by_batch(groups, settings.batches)


def _by_batch(groups: Sequence[Sequence[Attempt]], batches: Sequence[int]) -> list[Attempt]:
    return [attempt for batch in batches for own in groups for attempt in own if attempt.batch == batch]


def rows_of(attempts: Sequence[Attempt], beside: Sequence[Attempt] = ()) -> tuple[Row, ...]:
    """Return the rows of ``attempts``, by batch size, compared with each other and with ``beside``, measured before."""
    return tuple(
        row_of(attempt, [other for other in (*beside, *attempts) if other.batch == attempt.batch])
        for batch in dict.fromkeys(attempt.batch for attempt in attempts)
        for attempt in attempts
        if attempt.batch == batch
    )


class _Run:
    """A run under way."""

    def __init__(self, settings: Settings, log: Path, track: Track) -> None:
        self._settings, self._log, self._track = settings, log, track
        self._begin = perf_counter()
        self.deadline = Deadline.after(settings.whole_s)

    def build(self, number: int, groups: Sequence[Sequence[Attempt]], files: Files) -> None:
        """Make the session of each group, in a process of its own, and let them take their turns."""
        label = f"load {number + 1}" if number else "load"
        loading = self.deadline.halfway()  # what is loaded is to be measured, too
        with ExitStack() as stack:
            for own in self._track(groups, label, len(groups)):
                self._enter(number, own, files, loading, stack)
            for batch in self._settings.batches:
                self._batch(number, _by_batch(groups, [batch]))

    def _enter(self, build: int, own: Sequence[Attempt], files: Files, loading: Deadline, stack: ExitStack) -> None:
        """Load a contestant's model; its attempts share the process, or the reason why there is none."""
        if not own:
            return
        contestant = own[0].contestant
        reason = own[0].reason if all(attempt.reason for attempt in own) else loading.late()
        if reason is None:
            threads, sizes = contestant.threads or self._settings.threads, tuple(attempt.batch for attempt in own)
            options = SessionOptions(threads, self._settings.device, batch_sizes=sizes)
            remote = stack.enter_context(Remote(contestant.worker, self._log, contestant.name, options.threads))
            try:
                loaded = remote.ask(loading.patience_s(), "open", contestant, files, options, build)
            except BackendUnavailable as error:
                remote.close()
                reason = loading.why(error)
        for attempt in own:
            if reason is None:
                attempt.enter(remote, loaded)
            else:
                attempt.fail(reason)

    def _batch(self, build: int, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        settings = self._settings
        for attempt in attempts:
            if late := self.deadline.late():
                attempt.fail(late)
            attempt.check(settings.checked_queries * attempt.batch)
        turns = [(number, attempt) for number in settings.rounds_of(build) for attempt in attempts]  # A B C A B C
        label = f"batch {attempts[0].batch}" + (f", build {build + 1}" if settings.builds > 1 else "")
        for number, attempt in self._track(turns, label, len(turns)):
            first = number == settings.rounds_of(build).start
            limit_s = settings.seconds if first else settings.round_s
            attempt.warm(min(max(limit_s, _LEAST_WARMUP_S), _MOST_WARMUP_S))
            if settings.latency_bound_ms is None:
                self._closed(build, attempt)
            else:
                self._server(build, number, attempt, settings.latency_bound_ms)
        for attempt in attempts:
            attempt.finish(layers=settings.layers)

    def _closed(self, build: int, attempt: Attempt) -> None:
        """Run one round of queries, each when the last is answered."""
        if attempt.reason is not None:
            return
        settings = self._settings
        meter, why = find_meter(on_gpu=attempt.contestant.on_gpu, device=settings.device)
        if meter is not None:
            meter.start()
        start_s = perf_counter() - self._begin
        wanted = (attempt.batch, settings.round_s, settings.least_queries)
        ran = attempt.ask("round", *wanted, work_s=10 * settings.round_s)
        joules = meter.stop() if meter else None
        if ran is not None:
            attempt.ran(build, start_s, ran, joules, (meter.name, "") if meter else (None, why))

    def _server(self, build: int, number: int, attempt: Attempt, bound_ms: float) -> None:
        """Search the highest rate of one round."""
        settings, answers = self._settings, {}

        def attempted(rate_qps: float) -> Trial:
            queries = queries_of(rate_qps, settings.round_s)
            wanted = (attempt.batch, rate_qps, queries, bound_ms, settings.seed + number)
            answered = attempt.ask("serve", *wanted, work_s=10 * queries / rate_qps)
            if answered is None:
                raise BackendUnavailable(str(attempt.reason))
            answers[rate_qps] = answered
            return trial(rate_qps, answered, bound_ms)

        if attempt.reason is not None:
            return
        start_s = perf_counter() - self._begin
        try:
            served = search(attempted, 500 / attempt.warm_ms)  # half of what it can do one after the other
        except BackendUnavailable:
            return  # the attempt has the reason
        answered = answers[served.rate_qps or served.trials[-1].rate_qps]
        ran = Ran.of(np.array(answered.latencies_ns, np.int64), answered.wall_ns)
        attempt.ran(build, start_s, ran, None, (None, "a search for a rate is no steady load"), served)
