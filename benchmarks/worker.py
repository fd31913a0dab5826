"""What a contestant does in its own process: load, answer once for checking, then run queries against the clock."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import QuillError, SpecError
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.trt_layers import LayerTime

from .contestants import Contestant

_WARMUP_QUERIES = 5
_TIMED_QUERIES = 64
_CHECKED_QUERIES = 1024


class Bench:
    """One contestant and the images that its queries go through in turn; ``open`` comes first."""

    def open(self, contestant: Contestant, images: NDArray[np.float32], options: SessionOptions) -> float:
        """Load the model and return how long that took in ms, the import of its library included."""
        self._images = images
        self._labels = len(contestant.spec.labels)
        self._backend, self._graphed = contestant.backend, contestant.cuda_graph
        begin = perf_counter_ns()
        self._session = contestant.open(options)
        return (perf_counter_ns() - begin) / 1e6

    def check(self, batch: int) -> tuple[float, NDArray[np.float32]]:
        """Return the first query's time in ms and the logits float32 (N, K) of up to 1,024 queries of ``batch`` images.

        Raises:
            SpecError: the logits are no logits.
        """
        queries = batches(self._images, batch)[:_CHECKED_QUERIES]
        begin = perf_counter_ns()
        first = self._session.run(queries[0])
        first_ms = (perf_counter_ns() - begin) / 1e6
        # Copied, for a session may hand out its own buffer again.
        logits = np.concatenate([first.copy(), *(self._session.run(query).copy() for query in queries[1:])])
        expected = (batch * len(queries), self._labels)
        if logits.shape != expected or not np.isfinite(logits).all():
            raise SpecError(f"logits must be finite, of shape {expected}, but are not, or of shape {logits.shape}")
        return first_ms, logits

    def round(self, batch: int, seconds: float, least: int) -> tuple[list[int], int]:
        """Run queries for ``seconds``, at least ``least`` of them, after a quarter of that as warm-up.

        Returns each query's latency, host memory to host memory, and the wall time from the first to the last, in ns.
        """
        queries = batches(self._images, batch)
        self._run(queries, seconds / 4, _WARMUP_QUERIES)
        return self._run(queries, seconds, least)

    def _run(self, queries: list[NDArray[np.float32]], seconds: float, least: int) -> tuple[list[int], int]:
        run, clock, turns = self._session.run, perf_counter_ns, len(queries)
        latencies: list[int] = []
        begin = clock()
        deadline = begin + int(seconds * 1e9)
        while True:
            query = queries[len(latencies) % turns]
            start = clock()
            run(query)
            end = clock()
            latencies.append(end - start)
            if end >= deadline and len(latencies) >= least:
                return latencies, end - begin

    def device_ms(self, batch: int) -> dict[str, float] | None:
        """Return median copies, computation and enqueue by device events, where the session has them."""
        run_timed = getattr(self._session, "run_timed", None)
        if run_timed is None or (self._graphed and self._backend == "tensorrt"):  # which times queries without graphs
            return None
        queries = batches(self._images, batch)
        times = [asdict(run_timed(queries[i % len(queries)])[1]) for i in range(_TIMED_QUERIES)]
        return {key: median(time[key] for time in times) for key in times[0]}

    def layers(self, batch: int) -> tuple[LayerTime, ...] | str:
        """Return what each layer takes of a query, by the library's own profiler; or why nobody can tell."""
        layer_times = getattr(self._session, "layer_times", None)
        if self._graphed:
            return "a CUDA graph is one launch: see the row without"
        if layer_times is None:
            return f"{self._backend} tells of no layers"
        try:
            found: tuple[LayerTime, ...] = layer_times(batches(self._images, batch)[0], _TIMED_QUERIES)
        except QuillError as error:
            return str(error)
        return found


def batches(images: NDArray[np.float32], batch: int) -> list[NDArray[np.float32]]:
    """Cut images (N, C, H, W) into whole batches; too few images are repeated, a rest is left out."""
    if len(images) < batch:
        images = np.resize(images, (batch, *images.shape[1:]))
    return [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
