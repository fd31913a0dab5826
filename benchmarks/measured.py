"""What was measured of one contestant at one batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quillrt.runtime.trt_layers import LayerTime

from .cost import Cost

HOST_BOUND = 0.8  # trtexec's rule: above this share of the computing time the enqueue holds the GPU up


@dataclass(frozen=True)
class Agreement:
    """How a row's logits compare with those of the run's reference row on the same images.

    Attributes:
        reference: that row's name.
        images: how many images.
        same_label: share of images with the same label.
        max_difference: largest absolute difference of a logit.
        relative_error: ‖logits − reference‖ over ‖reference − its mean over the images‖, so that a backend which
            answers the same to every image is about 1 and not nearly right; over 1 where the reference is constant.
        tolerance: the relative error that the precisions of the two explain.
    """

    reference: str
    images: int
    same_label: float
    max_difference: float
    relative_error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """The precision explains the difference."""
        return self.relative_error <= self.tolerance


@dataclass(frozen=True)
class Accuracy:
    """How many of the images a row gets right, and whether that differs from the reference row by more than chance.

    Attributes:
        images: how many.
        right: of them.
        low: lower end of Wilson's 95 % interval of the share that is right.
        high: its upper end.
        only_reference: images that the reference alone gets right.
        only_this: images that this row alone gets right.
        p: McNemar's exact p of the two.
        wrong: numbers of the images that it gets wrong, in the run's order; ``None`` where the result has a sum alone.
    """

    images: int
    right: int
    low: float
    high: float
    only_reference: int
    only_this: int
    p: float
    wrong: tuple[int, ...] | None = None

    @property
    def drop_points(self) -> float:
        """The reference's accuracy minus this one's, in points."""
        return 100 * (self.only_reference - self.only_this) / self.images


@dataclass(frozen=True)
class Warmup:
    """How long it took until latencies were steady, by ``warmup``'s rule.

    Attributes:
        queries: run before the measuring began.
        seconds: they took.
        stable: the rule was met; else the time for it ran out.
    """

    queries: int
    seconds: float
    stable: bool


@dataclass(frozen=True)
class Round:
    """One turn of a row.

    Attributes:
        build: number of the session it ran in, from 0.
        start_s: when it began, in seconds since the run's start.
        wall_s: from the first query's start to the last one's end.
        queries: how many.
        median_ms: of their latencies.
        warmup: before it.
        latencies_ns: each query's; of a tool that keeps them to itself none.
        joules: energy of the round where the machine tells.
    """

    build: int
    start_s: float
    wall_s: float
    queries: int
    median_ms: float
    warmup: Warmup | None
    latencies_ns: tuple[int, ...]
    joules: float | None = None


@dataclass(frozen=True)
class Build:
    """One time that the row's session was made anew.

    Attributes:
        load_ms: import of the library and load of the model.
        first_query_ms: first query at this batch size; torch.compile compiles in it.
        build_s: of the engine, where it was built for this run or its builder's time is recorded.
        median_ms: median of its rounds' medians.
    """

    load_ms: float
    first_query_ms: float
    build_s: float | None
    median_ms: float | None


@dataclass(frozen=True)
class Trial:
    """One rate of arrivals that was tried.

    Attributes:
        rate_qps: mean arrivals a second.
        queries: how many arrived.
        p99_ms: of their latencies, each from its scheduled arrival.
        held: the bound was held.
        completed_qps: queries completed a second.
    """

    rate_qps: float
    queries: int
    p99_ms: float
    held: bool
    completed_qps: float


@dataclass(frozen=True)
class Served:
    """The search of one round for the highest rate that holds the bound.

    Attributes:
        rate_qps: the highest that held; 0 if none did.
        trials: in the order they were made.
    """

    rate_qps: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Metric:
    """The figure that the scenario is judged by, as MLPerf's LoadGen has it.

    Attributes:
        name: ``p90_ms``, ``p99_ms``, ``images_per_second`` or ``rate_qps``.
        value: ``None`` where the queries are too few for it.
        higher_is_better: a rate, not a time.
        rounds: the same by round, what ratios are made of: medians for a percentile, which a round is too short for.
    """

    name: str
    value: float | None
    higher_is_better: bool
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """What was measured of one contestant at one batch size; latencies are from host memory to host memory.

    Attributes:
        metric: the scenario's figure.
        queries: how many, over all rounds.
        wall_s: from first to last query, summed over the rounds.
        images_per_second: queries x batch / wall time.
        median_ms: median of the rounds' medians.
        percentiles_ms: nearest rank over all rounds, only those that so many queries can bear.
        rounds: each turn, with every query's latency.
        builds: each session that was made.
        build_spread: (largest − smallest) / median of the builds' medians; ``None`` for one build.
        cost: what it costs besides time.
        agreement: with the reference row; ``None`` for a tool that keeps its answers to itself.
        accuracy: on images with labels; ``None`` where there are no answers or no labels.
        served: by round, of the scenario ``server``.
        device_ms: median copies, computation and enqueue by device events, where there is a device.
        layers: what each layer takes of a query, where that was asked for and the library tells.
        no_layers: why it does not.
    """

    metric: Metric
    queries: int
    wall_s: float
    images_per_second: float
    median_ms: float
    percentiles_ms: Mapping[str, float]
    rounds: tuple[Round, ...]
    builds: tuple[Build, ...]
    build_spread: float | None
    cost: Cost
    agreement: Agreement | None
    accuracy: Accuracy | None
    served: tuple[Served, ...] = ()
    device_ms: Mapping[str, float] | None = None
    layers: tuple[LayerTime, ...] = ()
    no_layers: str | None = None

    @property
    def round_builds(self) -> tuple[int, ...]:
        """Which session each round ran in."""
        return tuple(each.build for each in self.rounds)

    @property
    def round_medians_ms(self) -> tuple[float, ...]:
        """How far the rounds lie apart."""
        return tuple(each.median_ms for each in self.rounds)

    @property
    def host_bound(self) -> bool:
        """Whether submitting the work takes so long that the GPU waits for it."""
        times = self.device_ms
        return times is not None and times["enqueue_ms"] > HOST_BOUND * times["compute_ms"]
