"""What `Session.run` adds to onnxruntime's own `run` at batch 1: `python -m quillrt.benchmarks.session_overhead`.

Both run the same graph on one thread, one query of each in turn, so that what disturbs the machine disturbs both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from quillrt.runtime.backends import open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.pretrained import find
from quillrt.runtime.select import candidates
from quillrt.runtime.session import SessionOptions

_BACKEND = "onnxruntime-cpu"
_WARM_UP = 200


def overhead(queries: int = 5000) -> list[dict[str, Any]]:
    """Return for each graph of ``models:digits`` the medians of both, in microseconds, over ``queries`` of each."""
    import onnxruntime

    bundle = Bundle.open(find("digits", ".quill"))
    spec, found = bundle.manifest.model, []
    recipe = spec.preprocessing
    batch = np.random.default_rng(0).normal(size=(1, spec.channels, recipe.height, recipe.width)).astype(np.float32)
    for entry in candidates(bundle, _BACKEND):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        bare = onnxruntime.InferenceSession(bundle.read(entry), settings, providers=["CPUExecutionProvider"])
        feed, wanted = {spec.input.name: batch}, [spec.output.name]
        with open_session(_BACKEND, bundle.read(entry), spec, SessionOptions(threads=1)) as session:
            ours_ns, bare_ns = _in_turn(partial(session.run, batch), partial(bare.run, wanted, feed), queries)
        found.append(
            {"file": entry.path, "queries": queries, "session_us": ours_ns / 1000, "onnxruntime_us": bare_ns / 1000}
        )
    return found


def _in_turn(first: Callable[[], Any], second: Callable[[], Any], queries: int) -> tuple[float, float]:
    """Return the medians in nanoseconds; which goes first changes each time."""
    times: tuple[list[int], list[int]] = [], []
    for number in range(_WARM_UP + queries):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter_ns()
            (first, second)[which]()
            if number >= _WARM_UP:
                times[which].append(time.perf_counter_ns() - started)
    return median(times[0]), median(times[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(overhead()) + "\n")
