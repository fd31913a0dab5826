"""Which of the files that keep their accuracy is the fastest here, and whether what it gains is worth its precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from quillrt.runtime.backends import BY_NAME
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import AccuracyError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.select import model_of

from .latency import latencies_us
from .verify import Verdict

WORTH = 0.02  # the share of time that a lower precision must save
_SIMPLEST = (
    *(Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16),
    *(Precision.INT8, Precision.MIXED, Precision.FP8),
)
_FEWEST_IMAGES = 64


@dataclass(frozen=True)
class Timing:
    """A file and a backend that runs it here.

    Attributes:
        path: the file in the bundle.
        backend: what ran it.
        precision: number format it computes in.
        latency_us: typical time of a query, one thread, in microseconds (``latency.paired``).
        drop: points of accuracy that it loses against FP32.
    """

    path: str
    backend: str
    precision: Precision
    latency_us: float
    drop: float


@dataclass(frozen=True)
class Choice:
    """What was timed and what is kept.

    Attributes:
        batch: images in a query.
        timings: the fastest first.
        chosen: the fastest; or a simpler precision that takes at most 2 % longer.
        note: why, in one line.
    """

    batch: int
    timings: tuple[Timing, ...]
    chosen: Timing
    note: str


def choose(
    bundle: Bundle, verdicts: Iterable[Verdict], validation: ImageSet, batch: int, track: Track = no_progress
) -> Choice:
    """Time each file of ``bundle`` on each backend whose verdict is without fault, and choose one.

    What the runtime opens only by name (``BY_NAME``) is timed, but never chosen.

    Raises:
        AccuracyError: there is none.
    """
    able = [verdict for verdict in verdicts if verdict.n and not verdict.fault]
    if not able:
        raise AccuracyError("expected a file that keeps its accuracy here, found none; see quillrt verify")
    spec, entries = bundle.manifest.model, {entry.path: entry for entry in bundle.entries}
    rows = [i % len(validation) for i in range(max(batch, _FEWEST_IMAGES))]
    images = normalize(fit_images(validation, spec.preprocessing)[rows], spec.preprocessing, spec.channels)
    models = [(verdict.backend, model_of(bundle, entries[verdict.path], verdict.backend)) for verdict in able]
    found = latencies_us(models, spec, images, batch, track)
    timings = [Timing(v.path, v.backend, v.precision, us, v.drop) for v, us in zip(able, found, strict=True)]
    timings.sort(key=lambda timing: timing.latency_us)
    found_best = chosen([timing for timing in timings if timing.backend not in BY_NAME], batch)
    return replace(found_best, timings=tuple(timings))


def chosen(timings: list[Timing], batch: int) -> Choice:
    """Choose among timings, the fastest first."""
    fastest = timings[0]
    near = [timing for timing in timings if timing.latency_us <= fastest.latency_us / (1 - WORTH)]
    kept = min(near, key=lambda timing: (_SIMPLEST.index(timing.precision), timing.latency_us))
    if kept.precision is fastest.precision:
        others = [timing for timing in timings if timing.precision is not fastest.precision]
        note = f"{_said(fastest)} is the fastest"
        if others:
            note += f", {1 - fastest.latency_us / others[0].latency_us:.0%} less time than {_said(others[0])}"
        return Choice(batch, tuple(timings), fastest, note)
    gain = 1 - fastest.latency_us / kept.latency_us
    note = f"{_said(fastest)} takes {gain:.1%} less time than {_said(kept)}, under {WORTH:.0%}: the simpler one is kept"
    return Choice(batch, tuple(timings), kept, note)


def _said(timing: Timing) -> str:
    return f"{timing.precision.value} on {timing.backend}"
