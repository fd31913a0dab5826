"""How long models take for a query: enough to choose between them; `quillrt bench` settles arguments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec

_TURNS = 15
_TURN_NS = 20_000_000  # a turn takes this long, and has three queries at least
_LEAST_QUERIES = 3


def latencies_us(
    models: Sequence[tuple[str, bytes]],
    spec: ModelSpec,
    images: NDArray[np.float32],
    batch: int = 1,
    track: Track = no_progress,
) -> list[float]:
    """Return the median time of a query of ``batch`` images with one thread, for each model, in microseconds.

    The models take turns, so that a disturbance meets all; a model's figure is the median over its turns' medians.

    Args:
        models: backend and ONNX graph or engine of each.
        spec: their input.
        images: float32 (N, C, H, W), N at least ``batch``; queries go through them.
        batch: images in a query.
        track: shows progress.

    Raises:
        BackendUnavailable: a backend cannot run here.
        BundleError: one cannot open its model.
    """
    starts = range(0, len(images) - batch + 1, max(1, batch // 2))
    queries = [np.ascontiguousarray(images[start : start + batch]) for start in starts]
    medians: list[list[float]] = [[] for _ in models]
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_session(name, model, spec, SessionOptions(threads=1))) for name, model in models
        ]
        for session in sessions:
            _turn(session, queries)  # warms up
        for _ in track(range(_TURNS), "timing", _TURNS):
            for session, found in zip(sessions, medians, strict=True):
                found.append(_turn(session, queries))
    return [float(np.median(found)) / 1000 for found in medians]


def _turn(session: Session, queries: Sequence[NDArray[np.float32]]) -> float:
    """Return the median time of a query in nanoseconds."""
    times: list[int] = []
    while len(times) < _LEAST_QUERIES or sum(times) < _TURN_NS:
        query = queries[len(times) % len(queries)]
        started = time.perf_counter_ns()
        session.run(query)
        times.append(time.perf_counter_ns() - started)
    return float(np.median(times))
