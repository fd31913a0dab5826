"""How long engines take for one image: enough to choose between them; `quillrt bench` settles arguments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.spec import ModelSpec

_ROUNDS, _QUERIES = 15, 40


def latencies_us(
    models: Sequence[bytes], backend: str, spec: ModelSpec, images: NDArray[np.float32], batch: int = 1
) -> list[float]:
    """Return the median time of a query of ``batch`` images with one thread, for each model, in microseconds.

    The models take turns, so that a disturbance meets all; a model's figure is the median over its turns' medians.

    Args:
        models: ONNX graphs or engines.
        backend: what runs them.
        spec: their input.
        images: float32 (N, C, H, W); queries go through them.
        batch: images in a query.

    Raises:
        BackendUnavailable: the backend cannot run here.
        BundleError: it cannot open a model.
    """
    queries = [np.ascontiguousarray(np.roll(images, -i, axis=0)[:batch]) for i in range(len(images))]
    turns: list[list[float]] = [[] for _ in models]
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_session(backend, model, spec, SessionOptions(threads=1))) for model in models
        ]
        for turn in range(_ROUNDS + 1):
            for session, found in zip(sessions, turns, strict=True):
                times = []
                for i in range(_QUERIES):
                    started = time.perf_counter_ns()
                    session.run(queries[i % len(queries)])
                    times.append(time.perf_counter_ns() - started)
                if turn:  # the first one warms up
                    found.append(float(np.median(times)))
    return [float(np.median(found)) / 1000 for found in turns]
