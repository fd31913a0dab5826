"""What a contestant does in its own process: load, answer once for checking, then run queries against the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import ONNX_ON_CPU
from quillrt.runtime.errors import QuillError, SpecError
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.trt_layers import LayerTime

from . import arrivals
from .contestants import Contestant, rebuilt
from .measured import Warmup
from .memory import Usage, peak_rss_bytes, usage
from .rotation import Files, mapped, spread
from .warmup import warm_up

_TIMED_QUERIES = 64


@dataclass(frozen=True)
class Ran:
    """What a round came to.

    Attributes:
        latencies_ns: of each query; none of a tool that keeps them to itself.
        wall_ns: from the first query's start to the last one's end.
        queries: how many.
        median_ms: of the latencies.
    """

    latencies_ns: NDArray[np.int64]
    wall_ns: int
    queries: int
    median_ms: float

    @classmethod
    def of(cls, latencies_ns: NDArray[np.int64], wall_ns: int) -> Ran:
        """Return the round of these latencies."""
        return cls(latencies_ns, wall_ns, len(latencies_ns), float(np.median(latencies_ns)) / 1e6)


class Bench:
    """One contestant and the images that its queries go through in turn; ``open`` comes first.

    The position in the rotation is kept from one round to the next, so that no query sees again what an earlier one
    saw before the whole rotation is through.
    """

    def open(
        self, contestant: Contestant, files: Files, options: SessionOptions, build: int
    ) -> tuple[float, float | None]:
        """Load the model and return how long that took in ms, the import of its library included.

        The second value is how many seconds its engine took to build, where one was built anew for a later ``build``.
        """
        model, build_s = rebuilt(contestant, options.device) if build else (contestant, contestant.build_s)
        self._labels = len(contestant.spec.labels)
        self._backend, self._graphed, self._model = contestant.backend, contestant.cuda_graph, model.model
        begin = perf_counter_ns()
        self._session: Session = self._opened(model, options)
        took = (perf_counter_ns() - begin) / 1e6
        self._unmapped_peak = peak_rss_bytes()
        self._images, self._rotation = mapped(files.check), mapped(files.rotation)
        self._turn = 0
        return took, build_s

    def _opened(self, contestant: Contestant, options: SessionOptions) -> Session:
        return contestant.open(options)

    def check(self, batch: int, most: int) -> tuple[float, NDArray[np.float32]]:
        """Return the first query's time in ms and the logits float32 (N, K) of ``most`` images, ``batch`` at a time.

        The images are those of ``rotation.spread``.

        Raises:
            SpecError: the logits are no logits.
        """
        images = self._images[spread(len(self._images), most)]
        count = len(images)
        first = padded(images[:batch], batch)
        begin = perf_counter_ns()
        self._session.run(first)
        first_ms = (perf_counter_ns() - begin) / 1e6
        starts = range(0, count, batch)
        # Copied, for a session may hand out its own buffer again.
        logits = np.concatenate([self._session.run(padded(images[s : s + batch], batch)).copy() for s in starts])
        expected = (batch * len(starts), self._labels)
        if logits.shape != expected or not np.isfinite(logits).all():
            raise SpecError(f"logits must be finite, of shape {expected}, but are not, or of shape {logits.shape}")
        return first_ms, logits[:count]

    def warm(self, batch: int, limit_s: float) -> tuple[Warmup, float]:
        """Run queries until their times are steady; return how that went and the median time in ms."""
        queries = Queries(self._rotation, batch)
        return warm_up(lambda: self._session.run(queries[self._next()]), perf_counter_ns, limit_s)

    def round(self, batch: int, seconds: float, least: int) -> Ran:
        """Run one query after the other for ``seconds``, at least ``least`` of them; host memory to host memory."""
        queries = Queries(self._rotation, batch)
        run, clock, next_turn = self._session.run, perf_counter_ns, self._next
        latencies: list[int] = []
        begin = clock()
        deadline = begin + int(seconds * 1e9)
        while True:
            query = queries[next_turn()]
            start = clock()
            run(query)
            end = clock()
            latencies.append(end - start)
            if end >= deadline and len(latencies) >= least:
                return Ran.of(np.array(latencies, np.int64), end - begin)

    def serve(self, batch: int, rate_qps: float, queries: int, bound_ms: float, seed: int) -> arrivals.Answered:
        """Run queries that arrive at random, ``rate_qps`` of them a second; latencies count from the arrivals."""
        images = Queries(self._rotation, batch)
        times = arrivals.schedule(rate_qps, queries, seed)
        run, bound_ns = self._session.run, int(bound_ms * 1e6)
        return arrivals.serve(lambda: run(images[self._next()]), times, bound_ns, perf_counter_ns, time.sleep)

    def _next(self) -> int:
        self._turn += 1
        return self._turn - 1

    def usage(self) -> Usage:
        """Return what memory the process took, the images left out."""
        return usage(self._unmapped_peak, self._images.nbytes + self._rotation.nbytes)

    def device_ms(self, batch: int) -> dict[str, float] | None:
        """Return median copies, computation and enqueue by device events, where the session has them."""
        run_timed = getattr(self._session, "run_timed", None)
        if run_timed is None or (self._graphed and self._backend == "tensorrt"):  # which times queries without graphs
            return None
        queries = Queries(self._rotation, batch)
        times = [asdict(run_timed(queries[i])[1]) for i in range(_TIMED_QUERIES)]
        return {key: median(time[key] for time in times) for key in times[0]}

    def layers(self, batch: int) -> tuple[LayerTime, ...] | str:
        """Return what each layer takes of a query, by the library's own profiler; or why nobody can tell."""
        layer_times = getattr(self._session, "layer_times", None)
        if self._graphed:
            return "a CUDA graph is one launch: see the row without"
        if layer_times is None:
            return f"{self._backend} tells of no layers"
        try:
            found: tuple[LayerTime, ...] = layer_times(Queries(self._rotation, batch)[0], _TIMED_QUERIES)
        except QuillError as error:
            return str(error)
        return _with_nodes(self._model, found) if self._backend in ONNX_ON_CPU and find_spec("onnx") else found


def _with_nodes(model: bytes | Path, layers: Sequence[LayerTime]) -> tuple[LayerTime, ...]:
    """Return the layers with the nodes fused into each; onnxruntime names it after one of them, such as a ReLU."""
    import onnx

    from quillrt.compile.attest import with_nodes

    assert isinstance(model, bytes)  # noqa: S101 - graphs come out of bundles
    return tuple(with_nodes(onnx.load_from_string(model), layers))


class Queries:
    """Whole batches of images (N, C, H, W) in turn; too few images are repeated, a rest is left out."""

    def __init__(self, images: NDArray[np.float32], batch: int) -> None:
        self._images, self._batch = padded(images, batch), batch
        self._count = len(self._images) // batch

    def __getitem__(self, turn: int) -> NDArray[np.float32]:
        start = turn % self._count * self._batch
        return self._images[start : start + self._batch]


def padded(images: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Return images (N, C, H, W), repeated to make a batch where there are fewer."""
    return images if len(images) >= batch else np.resize(images, (batch, *images.shape[1:]))
