"""A benchmark's result: what each row measured, or why it could not, with what it needs to be read later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from quillrt.runtime.trt_layers import LayerTime

SCHEMA = 1
HOST_BOUND = 0.8  # trtexec's rule: above this share of the computing time the enqueue holds the GPU up


@dataclass(frozen=True)
class Agreement:
    """How a row's logits compare with those of the run's first row on the same images.

    Attributes:
        reference: that row's name.
        images: how many images.
        same_label: share of images with the same label.
        max_difference: largest absolute difference of a logit.
        relative_error: ‖logits − reference‖ over ‖reference − its mean over the images‖, so that a backend which
            answers the same to every image is about 1 and not nearly right; over 1 where the reference is constant.
    """

    reference: str
    images: int
    same_label: float
    max_difference: float
    relative_error: float


@dataclass(frozen=True)
class Measured:
    """What was measured of one contestant at one batch size; latencies are from host memory to host memory.

    Attributes:
        open_ms: import of the library and load of the model.
        first_query_ms: first query at this batch size; torch.compile compiles in it.
        queries: how many, over all rounds.
        wall_s: from first to last query, summed over the rounds.
        images_per_second: queries x batch / wall time.
        median_ms: median of the rounds' medians.
        round_medians_ms: how far the rounds lie apart.
        percentiles_ms: nearest rank over all rounds, only those that so many queries can bear.
        agreement: with the run's first row.
        device_ms: median copies, computation and enqueue by device events, where there is a device.
        layers: what each layer takes of a query, where that was asked for and the library tells.
        no_layers: why it does not.
        latencies_ns: every query, by round.
    """

    open_ms: float
    first_query_ms: float
    queries: int
    wall_s: float
    images_per_second: float
    median_ms: float
    round_medians_ms: tuple[float, ...]
    percentiles_ms: Mapping[str, float]
    agreement: Agreement
    device_ms: Mapping[str, float] | None
    latencies_ns: tuple[tuple[int, ...], ...]
    layers: tuple[LayerTime, ...] = ()
    no_layers: str | None = None

    @property
    def host_bound(self) -> bool:
        """Whether submitting the work takes so long that the GPU waits for it."""
        times = self.device_ms
        return times is not None and times["enqueue_ms"] > HOST_BOUND * times["compute_ms"]


@dataclass(frozen=True)
class Row:
    """One contestant at one batch size: what was measured, or the reason why nothing was.

    Attributes:
        backend: as in ``contestants.NAMES``.
        precision: number format; ``None`` where there is no model.
        batch: images in a query.
        reason: why it did not run.
        measured: what was measured.
        speedup: by the reference row's name, how many times as fast as that row at this batch size, by medians.
        variant: options that tell it from the other rows of its backend and precision.
    """

    backend: str
    precision: str | None
    batch: int
    reason: str | None = None
    measured: Measured | None = None
    speedup: Mapping[str, float] = field(default_factory=dict)
    variant: str = ""

    @property
    def name(self) -> str:
        """Backend, precision and variant."""
        return " ".join(filter(None, (self.backend, self.precision, self.variant)))


@dataclass(frozen=True)
class Result:
    """A whole run.

    Attributes:
        settings: how it was measured: batches, seconds, rounds, threads, images, where they came from.
        environment: the machine, as ``environment.describe`` tells it.
        rows: by batch size, in the contestants' order.
    """

    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]

    def to_json(self, *, raw: bool = True) -> dict[str, Any]:
        """Return plain JSON values; without ``raw`` the single latencies are left out."""
        data = {"schema": SCHEMA, **asdict(self)}
        if not raw:
            for row in data["rows"]:
                if row["measured"]:
                    del row["measured"]["latencies_ns"]
        return data
