"""How long models take for a query: enough to choose between them; `quillrt bench` settles arguments."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec

_TURNS = 15
_FURTHER_TURNS = 45
_NEAR = 1.5  # times the fastest's time: who takes longer has no further turns
_TURN_NS = 20_000_000  # a turn takes this long, and has three queries at least
_LEAST_QUERIES = 3
_Key = TypeVar("_Key", bound=Hashable)


def latencies_us(
    models: Sequence[tuple[str, bytes]],
    spec: ModelSpec,
    images: NDArray[np.float32],
    batch: int = 1,
    track: Track = no_progress,
) -> list[float]:
    """Return the typical time of a query of ``batch`` images with one thread, for each model, in microseconds.

    The models take turns, short ones, so that a disturbance meets all, and those near the fastest take more of them;
    ``paired`` makes figures of them.

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
    turns: list[dict[int, float]] = []
    with ExitStack() as stack:
        sessions = dict(
            enumerate(
                stack.enter_context(open_session(name, model, spec, SessionOptions(threads=1, batch_sizes=(batch,))))
                for name, model in models
            )
        )
        for session in sessions.values():
            _turn(session, queries)  # warms up
        for _ in track(range(_TURNS), "timing", _TURNS):
            turns.append({number: _turn(session, queries) for number, session in sessions.items()})
        first = paired(turns)
        near = [number for number, time_ns in first.items() if time_ns <= _NEAR * min(first.values())]
        for _ in track(range(_FURTHER_TURNS if len(near) > 1 else 0), "timing the fastest", _FURTHER_TURNS):
            turns.append({number: _turn(sessions[number], queries) for number in near})
    found = paired(turns)
    return [found[number] / 1000 for number in sessions]


def paired(turns: Sequence[Mapping[_Key, float]]) -> dict[_Key, float]:
    """Return the typical time of each key out of the times of turns; some take part in all, the others in the first.

    It is the median of the fastest among those in all turns, times the median of the ratios to it within a turn: what
    slows a machine down for seconds slows both times of a ratio, but may meet more turns of one key than of another.
    """
    medians = {key: float(np.median([turn[key] for turn in turns])) for key in turns[-1]}
    fastest = min(medians, key=medians.__getitem__)
    return {
        key: medians[fastest] * float(np.median([turn[key] / turn[fastest] for turn in turns if key in turn]))
        for key in turns[0]
    }


def _turn(session: Session, queries: Sequence[NDArray[np.float32]]) -> float:
    """Return the median time of a query in nanoseconds."""
    times: list[int] = []
    while len(times) < _LEAST_QUERIES or sum(times) < _TURN_NS:
        query = queries[len(times) % len(queries)]
        started = time.perf_counter_ns()
        session.run(query)
        times.append(time.perf_counter_ns() - started)
    return float(np.median(times))
