"""A benchmark's result: what each row measured, or why it could not, with what it needs to be read later.

``result.schema.json`` beside this file is the published form of it; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from quillrt.runtime.counting import counted

from .measured import Measured
from .roofline import Peak, Roofline

SCHEMA_VERSION = 3
VERDICTS = ("baseline", "faster", "slower", "equal", "too noisy", "wrong", "not run", "not judged")


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one row is as another, by the scenario's metric, paired by round.

    Attributes:
        ratio: median of the rounds' ratios; above 1 is faster.
        low: lower end of the 95 % interval, see ``intervals``.
        high: its upper end.
        rounds: how many pairs.
    """

    ratio: float
    low: float
    high: float
    rounds: int


def named(backend: str, precision: str | None, variant: str, threads: int | None, image_size: int | None) -> str:
    """Return what a row is called: backend, precision, variant, and what of it a sweep changed."""
    count = "" if threads is None else counted(threads, "thread")
    size = "" if image_size is None else f"{image_size} x {image_size} untrained"
    return " ".join(filter(None, (backend, precision, variant, count, size)))


@dataclass(frozen=True)
class Row:
    """One contestant at one batch size: what was measured, or the reason why nothing was.

    Attributes:
        backend: as in ``contestants.NAMES``, or one of ``peers.PEERS``.
        precision: number format; ``None`` where there is no model.
        batch: images in a query.
        reason: why it did not run.
        measured: what was measured.
        speedup: by the other row's name, how many times as fast as that row at this batch size.
        variant: options that tell it from the other rows of its backend and precision.
        kind: ``backend``, or ``peer`` for another's way to measure, which never wins.
        verdict: one of ``VERDICTS``, against the run's baseline.
        why: what the verdict rests on, in a line.
        roofline: where it stands under the machine's roof, if that was asked for.
        threads: CPU threads of a query where a sweep changed them; ``None``: the run's.
        image_size: pixels a side where a sweep changed them, of a network as it was initialised; else ``None``.
        knee: in a sweep of batches, the smallest one with nearly the best throughput.
    """

    backend: str
    precision: str | None
    batch: int
    reason: str | None = None
    measured: Measured | None = None
    speedup: Mapping[str, Ratio] = field(default_factory=dict)
    variant: str = ""
    kind: str = "backend"
    verdict: str = "not judged"
    why: str = ""
    roofline: Roofline | None = None
    threads: int | None = None
    image_size: int | None = None
    knee: bool = False

    @property
    def name(self) -> str:
        """As rows are called."""
        return named(self.backend, self.precision, self.variant, self.threads, self.image_size)

    @property
    def series(self) -> str:
        """The name without what a sweep changed."""
        return named(self.backend, self.precision, self.variant, None, None)


@dataclass(frozen=True)
class Winner:
    """The fastest row of a batch size, if it can be told.

    Attributes:
        batch: images in a query.
        name: the row's; ``None`` where no row can be said to be the fastest.
        tied: rows that cannot be told from it, the fastest by its figure first.
        why: in a line.
    """

    batch: int
    name: str | None
    tied: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Beside:
    """Our figure beside a peer's for the same model, batch and threads.

    Attributes:
        batch: images in a query.
        peer: the peer row's name.
        ours: the name of our row.
        difference: our median over the peer's, minus 1, paired by round.
        bounds: its 95 % interval, see ``intervals``; ``None`` of one round.
        allowed: how large a difference needs no explanation.
        why: what explains a larger one, or that nothing has to.
    """

    batch: int
    peer: str
    ours: str
    difference: float
    bounds: tuple[float, float] | None
    allowed: float
    why: str


@dataclass(frozen=True)
class Rotation:
    """The images that queries go through in turn.

    Attributes:
        source: what they are called, such as ``mnist test``.
        images: in the rotation.
        distinct: real images among them; the others are these, each copy a little dimmer, so that none is there twice.
        bytes: of the rotation, as the network takes it.
        l3_bytes: of the largest cache, as sysfs tells; ``None`` where it does not.
    """

    source: str
    images: int
    distinct: int
    bytes: int
    l3_bytes: int | None

    @property
    def larger_than_l3(self) -> bool | None:
        """No cache holds it; ``None`` where the cache is not known."""
        return None if self.l3_bytes is None else self.bytes > self.l3_bytes


@dataclass(frozen=True)
class Result:
    """A whole run.

    Attributes:
        settings: how it was measured: ``Settings`` and what the rows were made of.
        environment: the machine at start and end, as ``environment.describe`` tells it.
        rows: by batch size, in the contestants' order.
        rotation: the images.
        baseline: by batch size, the row that verdicts are against.
        winners: by batch size.
        beside: our figures beside the peers'.
        warnings: what of the machine's state makes these figures doubtful.
        model: name of what was measured, and its sha256.
        peaks: what the machine can do at best, as far as the rows' rooflines want it.
    """

    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]
    rotation: Rotation
    baseline: Mapping[int, str] = field(default_factory=dict)
    winners: tuple[Winner, ...] = ()
    beside: tuple[Beside, ...] = ()
    warnings: tuple[str, ...] = ()
    model: Mapping[str, str] = field(default_factory=dict)
    peaks: tuple[Peak, ...] = ()

    def to_json(self, *, raw: bool = True) -> dict[str, Any]:
        """Return plain JSON values; without ``raw`` the single latencies and the wrong images' numbers are left out."""
        data = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        data["baseline"] = {str(batch): name for batch, name in self.baseline.items()}
        data["rotation"]["larger_than_l3"] = self.rotation.larger_than_l3
        for row, found in zip(data["rows"], self.rows, strict=True):
            row["name"] = found.name
            if found.roofline is not None:
                row["roofline"]["above"] = found.roofline.above
            if found.measured is not None:
                _add_derived(row["measured"], found.measured)
                accuracy = row["measured"]["accuracy"]
                if accuracy is not None and (accuracy["wrong"] is None or not raw):
                    del accuracy["wrong"]
                if not raw:
                    for each in row["measured"]["rounds"]:
                        del each["latencies_ns"]
        return data


def _add_derived(data: dict[str, Any], measured: Measured) -> None:
    """Add what readers would otherwise have to compute by rules of ours."""
    if measured.agreement is not None:
        data["agreement"]["within"] = measured.agreement.within
    if measured.accuracy is not None:
        data["accuracy"]["accuracy"] = measured.accuracy.right / measured.accuracy.images
        data["accuracy"]["drop_points"] = measured.accuracy.drop_points
    data["round_spread"] = spread(measured.round_medians_ms)


def spread(values: tuple[float, ...]) -> float:
    """Return (largest − smallest) / median."""
    return (max(values) - min(values)) / median(values)
