"""One query's way over the GPU: a stream, buffers, and the execution contexts that work in them."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cuda import Cuda
from .errors import BackendUnavailable
from .pending import Pending
from .trt_engine import Engine

_MOST_GRAPHS = 16  # each batch size has a context of its own, and with it memory


@dataclass(frozen=True)
class Timing:
    """Where the time of a query went, by device events.

    Attributes:
        h2d_ms: copy of the images to the device.
        compute_ms: the engine's kernels.
        d2h_ms: copy of the logits back.
        enqueue_ms: host time to submit the three.
    """

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float


class _Batch:
    """A batch size with its own execution context, and the CUDA graph captured of it once it ran."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.graph: int | None = None


class Lane:
    """A stream on which queries follow one another, with buffers for the largest batch of one profile.

    Copies and kernels of different lanes run beside each other.

    Args:
        engine: that computes.
        cuda: the GPU, which owns all that the lane allocates.
        profile: index of the engine's profile.
        graphs: whether each batch size becomes a CUDA graph at its second query, while there is memory for one more.

    Raises:
        BackendUnavailable: there is not enough memory.
    """

    def __init__(self, engine: Engine, cuda: Cuda, profile: int, *, graphs: bool) -> None:
        self._engine, self._cuda, self._profile = engine, cuda, profile
        self._batches = engine.profiles[profile]
        self._on_its_way: tuple[Pending, slice] | None = None
        self._sent = 0  # the batch the common context is set to; none before the first query
        self._own: dict[int, _Batch] = {}
        self._most_graphs = _MOST_GRAPHS if graphs else 0
        largest = self._batches.largest
        with cuda.current(), cuda.all_or_nothing():
            self._stream = cuda.new_stream()
            self._events = [cuda.new_event() for _ in range(4)]
            try:
                self._images = cuda.pinned((largest, *engine.image_shape), np.float32)
                self._logits = cuda.pinned((largest, len(engine.spec.labels)), np.float32)
                self._device_images = cuda.device_buffer(self._images.nbytes)
                self._device_logits = cuda.device_buffer(self._logits.nbytes)
            except BackendUnavailable as error:
                raise BackendUnavailable(
                    f"expected memory for {largest} images at a time on the GPU, but {error}; free some, or build "
                    "with a smaller --shapes"
                ) from error
            self._context = self._new_context()

    def carries(self, pending: Pending) -> bool:
        """Tell whether a part of ``pending`` is on its way here."""
        return self._on_its_way is not None and self._on_its_way[0] is pending

    @property
    def is_free(self) -> bool:
        """Nothing is on its way."""
        return self._on_its_way is None

    def send(self, images: NDArray[np.float32], pending: Pending, rows: slice) -> None:
        """Submit a query of at most the profile's largest batch, whose logits become ``rows`` of ``pending``.

        Raises:
            BackendUnavailable: the device failed.
        """
        self.finish()
        with self._cuda.current():
            sent = self._fill(images)
            self._enqueue(sent)
        self._on_its_way = (pending, rows)
        pending.sent_by(self)

    def finish(self) -> None:
        """Wait for what is on its way, if anything is, and hand out its logits.

        Raises:
            BackendUnavailable: the device failed; the query that was on its way has failed.
        """
        if self._on_its_way is None:
            return
        pending, rows = self._on_its_way
        try:
            with self._cuda.current():
                self._cuda.synchronize(self._stream)
        except BackendUnavailable as error:
            self._on_its_way, pending.error = None, error
            raise
        self._on_its_way = None
        pending.logits[rows] = self._logits[: rows.stop - rows.start]

    def timed(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], Timing]:
        """Return the logits of at most the largest batch, and where the time went; CUDA graphs are not used.

        Raises:
            BackendUnavailable: the device failed.
        """
        self.finish()
        cuda = self._cuda
        submitted, copied_in, computed, copied_out = self._events
        with cuda.current():
            sent = self._fill(images)
            context = self._common(sent)
            started = time.perf_counter()
            cuda.record(submitted, self._stream)
            self._copy_in(sent)
            cuda.record(copied_in, self._stream)
            self._compute(context)
            cuda.record(computed, self._stream)
            self._copy_out(sent)
            cuda.record(copied_out, self._stream)
            enqueue_ms = (time.perf_counter() - started) * 1e3
            cuda.synchronize(self._stream)
            timing = Timing(
                cuda.elapsed_ms(submitted, copied_in),
                cuda.elapsed_ms(copied_in, computed),
                cuda.elapsed_ms(computed, copied_out),
                enqueue_ms,
            )
        return self._logits[: len(images)].copy(), timing

    def run_with(self, profiler: Any, images: NDArray[np.float32], queries: int) -> None:
        """Let ``profiler``, an ``IProfiler``, hear of each layer's time in ``queries`` queries.

        Raises:
            BackendUnavailable: the device failed.
        """
        self.finish()
        with self._cuda.current():
            sent = self._fill(images)
            context = self._new_context()
            self._set_batch(context, sent)
            for query in range(queries + 1):
                self._copy_in(sent)
                self._compute(context)
                self._cuda.synchronize(self._stream)
                if query == 0:  # the first loads kernels, which is no layer's time
                    context.profiler = profiler

    def close(self) -> None:
        """Hand out what is on its way, and let go of the contexts, once the device is done with them."""
        with suppress(BackendUnavailable):  # of a failed device, which has no kernels under way
            self.finish()
            self._cuda.synchronize(self._stream)  # after Ctrl-C there may be some
        self._own.clear()
        self._context = None

    def _fill(self, images: NDArray[np.float32]) -> int:
        """Copy ``images`` to pinned memory; return how many go to the device.

        Below the profile's least batch the rows of earlier queries go along; what is said of them is not read.
        """
        self._images[: len(images)] = images
        return max(len(images), self._batches.smallest)

    def _enqueue(self, sent: int) -> None:
        batch = self._own_batch(sent)
        if batch is None:
            self._enqueue_parts(self._common(sent), sent)
            return
        if batch.graph is not None:
            self._cuda.launch(batch.graph, self._stream)
            return
        # TensorRT wants a context to have run once at this size before it is captured.
        self._enqueue_parts(batch.context, sent)
        self._cuda.synchronize(self._stream)
        batch.graph = self._cuda.capture(self._stream, lambda: self._enqueue_parts(batch.context, sent))

    def _own_batch(self, sent: int) -> _Batch | None:
        """Return the batch size with its own context, which no other size may touch; ``None`` if there are too many."""
        if sent not in self._own and len(self._own) < self._most_graphs:
            try:
                context = self._new_context()
            except BackendUnavailable:  # there is no memory for one more: those to come go without a graph
                self._most_graphs = len(self._own)
                return None
            self._set_batch(context, sent)
            self._own[sent] = _Batch(context)
        return self._own.get(sent)

    def _common(self, sent: int) -> Any:
        """Return the context for all sizes, set to ``sent`` images."""
        if sent != self._sent:
            self._set_batch(self._context, sent)
            self._sent = sent
        return self._context

    def _enqueue_parts(self, context: Any, sent: int) -> None:
        self._copy_in(sent)
        self._compute(context)
        self._copy_out(sent)

    def _copy_in(self, sent: int) -> None:
        self._cuda.copy_in(self._device_images, self._images[:sent], self._stream)

    def _compute(self, context: Any) -> None:
        self._engine.require(context.execute_async_v3(self._stream), "cannot run")

    def _copy_out(self, sent: int) -> None:
        self._cuda.copy_out(self._logits[:sent], self._device_logits, self._stream)

    def _new_context(self) -> Any:
        context = self._engine.context(self._profile, self._stream)
        spec = self._engine.spec
        for name, address in ((spec.input.name, self._device_images), (spec.output.name, self._device_logits)):
            self._engine.require(context.set_tensor_address(name, address), f"refuses the buffer of {name!r}")
        return context

    def _set_batch(self, context: Any, sent: int) -> None:
        shape = self._images[:sent].shape
        self._engine.require(
            context.set_input_shape(self._engine.spec.input.name, shape), f"refuses images of shape {shape}"
        )
