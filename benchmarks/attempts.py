"""One row in the making: what its process answered, and the row that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.trt_layers import LayerTime

from .agreement import accuracy_of, compare, tolerance
from .comparing import reference_among
from .contestants import Contestant
from .cost import Cost
from .deadline import Deadline
from .measured import Build, Measured, Round, Served, Warmup
from .memory import Usage
from .process import Remote
from .results import Row, spread
from .rotation import spread as spread_of
from .scenarios import metric_of
from .statistics import percentiles
from .worker import Ran

_TOOL = "a tool is a process of its own, and is asked for its median only"


class Attempt:
    """A contestant at one batch size, over all rounds and builds; its first failure is its reason for good."""

    def __init__(
        self,
        contestant: Contestant,
        batch: int,
        deadline: Deadline,
        scenario: str,
        labels: NDArray[np.int64] | None,
    ) -> None:
        self.contestant, self.batch, self.scenario, self.labels = contestant, batch, scenario, labels
        self._deadline = deadline
        self.reason = contestant.reason
        self.logits: NDArray[np.float32] | None = None
        self.rounds: list[Round] = []
        self.served: list[Served] = []
        self.loads: list[tuple[float, float | None]] = []  # of each build: load in ms, build of its engine in s
        self.first_ms: list[float] = []
        self.usages: list[Usage] = []
        self.warm_ms = 0.0
        self.device_ms: Mapping[str, float] | None = None
        self.layers: tuple[LayerTime, ...] | str = ()
        self._remote: Remote | None = None
        self._warmup: Warmup | None = None
        self._energy: tuple[str | None, str] = (None, "nothing was measured")

    @property
    def is_tool(self) -> bool:
        """It measures by itself and keeps its answers."""
        return self.contestant.kind == "peer" and self.logits is None

    def enter(self, remote: Remote, loaded: tuple[float, float | None]) -> None:
        """Run in ``remote`` from here on."""
        self._remote = remote
        self.loads.append(loaded)

    def fail(self, reason: str) -> None:
        """Have a reason, unless there is one already."""
        self.reason = self.reason or reason

    def ask(self, name: str, *args: Any, work_s: float = 0.0) -> Any:
        """Return what the process answers, which takes ``work_s`` or so; ``None`` where it failed, now or before."""
        if self.reason is None and self._remote is not None:
            try:
                return self._remote.ask(self._deadline.patience_s(work_s), name, *args)
            except BackendUnavailable as error:
                self.reason = self._deadline.why(error)
        return None

    def check(self, most: int) -> None:
        """Answer ``most`` of the images once; a session made anew has its first query only."""
        if answer := self.ask("check", self.batch, most if self.logits is None else self.batch):
            first_ms, logits = answer
            self.first_ms.append(first_ms)
            self.logits = logits if self.logits is None else self.logits

    def warm(self, limit_s: float) -> None:
        """Warm up."""
        if answer := self.ask("warm", self.batch, limit_s, work_s=limit_s):
            self._warmup, self.warm_ms = answer

    def ran(
        self,
        build: int,
        start_s: float,
        ran: Ran,
        joules: float | None,
        energy: tuple[str | None, str],
        served: Served | None = None,
    ) -> None:
        """Take a round's outcome; ``energy`` is who told it, or why nobody did."""
        times, wall_s = tuple(ran.latencies_ns.tolist()), ran.wall_ns / 1e9
        self.rounds.append(Round(build, start_s, wall_s, ran.queries, ran.median_ms, self._warmup, times, joules))
        self.served += [served] if served else []
        self._energy = energy

    def finish(self, *, layers: bool) -> None:
        """Ask what takes no part in the rounds."""
        if found := self.ask("usage"):
            self.usages.append(found)
        self.device_ms = self.ask("device_ms", self.batch)
        if layers:
            self.layers = self.ask("layers", self.batch) or ()

    def builds(self) -> tuple[Build, ...]:
        """Return each session that was made, with what its rounds took."""
        found = []
        for number, ((load_ms, build_s), first_ms) in enumerate(zip(self.loads, self.first_ms, strict=False)):
            medians = [each.median_ms for each in self.rounds if each.build == number]
            if self.contestant.compiles_at_first_query:
                build_s = first_ms / 1e3
            found.append(Build(load_ms, first_ms, build_s, median(medians) if medians else None))
        return tuple(found)

    def cost(self) -> Cost:
        """Return what it costs besides time."""
        absent: dict[str, str] = {}
        builds, contestant = self.builds(), self.contestant
        peaks = [each.peak_rss_bytes for each in self.usages if each.peak_rss_bytes is not None]
        device = [each.device_memory_bytes for each in self.usages if each.device_memory_bytes is not None]
        built = [each.build_s for each in builds if each.build_s is not None]
        if not peaks:
            absent["peak_rss_bytes"] = (
                "a tool runs in a process of its own" if self.is_tool else "the kernel does not tell"
            )
        if not builds:
            absent |= dict.fromkeys(("load_ms", "first_query_ms"), _TOOL)
        if not device:
            absent["device_memory_bytes"] = (
                "nvidia-smi does not tell" if contestant.on_gpu else "it computes on the processor"
            )
        if not built:
            absent["build_s"] = contestant.no_build or "its file does not say how long it was built"
        source, why = self._energy
        joules = [each.joules for each in self.rounds if each.joules is not None]
        each_image = None
        if joules and len(joules) == len(self.rounds):
            each_image = sum(joules) / sum(each.queries * self.batch for each in self.rounds)
        if not each_image:
            reason = why or "the rounds were too short for the meter"
            absent |= dict.fromkeys(("joules_per_image", "images_per_joule", "energy_source"), reason)
        return Cost(
            load_ms=median(each.load_ms for each in builds) if builds else None,
            first_query_ms=median(each.first_query_ms for each in builds) if builds else None,
            build_s=median(built) if built else None,
            peak_rss_bytes=max(peaks, default=None),
            device_memory_bytes=max(device, default=None),
            artifact_bytes=contestant.artifact_bytes,
            joules_per_image=each_image or None,
            images_per_joule=1 / each_image if each_image else None,
            energy_source=source if each_image else None,
            absent=absent,
        )


def row_of(attempt: Attempt, beside: Sequence[Attempt]) -> Row:
    """Return the row of an attempt, its answers held against those of the reference among ``beside``."""
    contestant = attempt.contestant
    row = Row(
        contestant.backend,
        contestant.precision,
        attempt.batch,
        attempt.reason,
        variant=contestant.variant,
        kind=contestant.kind,
        threads=contestant.threads,
        image_size=contestant.image_size,
    )
    if attempt.reason is not None:
        return row
    pooled = [ns / 1e6 for each in attempt.rounds for ns in each.latencies_ns]
    tail, rounds = percentiles(pooled), tuple(attempt.rounds)
    wall_s, queries = sum(each.wall_s for each in rounds), sum(each.queries for each in rounds)
    builds = attempt.builds()
    medians = tuple(each.median_ms for each in builds if each.median_ms is not None)
    able = [a for a in beside if a.reason is None and a.logits is not None and a.contestant.kind == "backend"]
    chosen = reference_among([(a.contestant.name, a.contestant.precision) for a in able])
    reference = next((a for a in able if a.contestant.name == chosen), None)
    agreement = accuracy = None
    if attempt.logits is not None and reference is not None and reference.logits is not None:
        other = reference.contestant
        explained = tolerance(contestant.precision, other.precision)
        agreement = compare(attempt.logits, reference.logits, other.name, explained)
        if attempt.labels is not None:
            checked = spread_of(len(attempt.labels), len(attempt.logits))
            accuracy = accuracy_of(attempt.logits, reference.logits, attempt.labels[checked], checked)
    measured = Measured(
        metric=metric_of(attempt.scenario, rounds, tail, attempt.batch, attempt.served),
        queries=queries,
        wall_s=wall_s,
        images_per_second=queries * attempt.batch / wall_s,
        median_ms=median(each.median_ms for each in rounds),
        percentiles_ms=tail,
        rounds=rounds,
        builds=builds,
        build_spread=spread(medians) if len(medians) > 1 else None,
        cost=attempt.cost(),
        agreement=agreement,
        accuracy=accuracy,
        served=tuple(attempt.served),
        device_ms=attempt.device_ms,
        layers=() if isinstance(attempt.layers, str) else attempt.layers,
        no_layers=attempt.layers if isinstance(attempt.layers, str) else None,
    )
    return replace(row, measured=measured)
