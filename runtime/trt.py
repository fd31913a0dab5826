"""Sessions over TensorRT and TensorRT-RTX engines: numpy in, numpy out."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .cuda import Cuda, open_cuda
from .device import find_gpus
from .errors import BackendUnavailable, BundleError
from .session import Session, SessionOptions
from .spec import ModelSpec
from .tensorrt_api import TensorRT, load


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


class TensorRTSession(Session):
    """A TensorRT engine in GPU memory; it answers one query at a time."""

    family: ClassVar[str] = "tensorrt"

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why engines of this family cannot run here and what to install; ``None`` where they can."""
        try:
            find_gpus()
        except BackendUnavailable as error:
            return f"{cls.family} needs an NVIDIA GPU: {error}"
        try:
            load(cls.family)
            open_cuda(0).close()
        except BackendUnavailable as error:
            return str(error)
        return None

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        """Load the engine ``model``.

        Raises:
            BackendUnavailable: TensorRT, a GPU or memory is missing, or the engine is for another device or version.
            BundleError: the engine's input and output are not those of ``spec``.
        """
        self._spec = spec
        self._loaded: _Loaded | None = _Loaded(load(self.family), open_cuda(options.device), model, spec)

    @property
    def spec(self) -> ModelSpec:
        """What goes in and what comes out."""
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32 (N, K) for images float32 (N, C, H, W); N may exceed the engine's largest batch.

        Raises:
            SpecError: the batch has another type or shape, is empty or holds NaN.
            BackendUnavailable: the device failed, or the session is closed.
        """
        return self._run(batch, None)

    def run_timed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], Timing]:
        """Return ``run``'s logits, and where the time went: the sum over the parts of a batch that was cut.

        Raises:
            SpecError: as ``run``.
            BackendUnavailable: as ``run``.
        """
        timings: list[Timing] = []
        logits = self._run(batch, timings)
        return logits, Timing(*map(sum, zip(*map(astuple, timings), strict=True)))

    def close(self) -> None:
        """Free the engine and its memory; a second call does nothing."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.close()

    def _run(self, batch: NDArray[np.float32], timings: list[Timing] | None) -> NDArray[np.float32]:
        if self._loaded is None:
            raise BackendUnavailable("expected an open session, found a closed one: open another")
        self._spec.input.check(batch)
        logits = np.empty((len(batch), len(self._spec.labels)), np.float32)
        step = self._loaded.max_batch
        for start in range(0, len(batch), step):
            self._loaded.query(batch[start : start + step], logits[start : start + step], timings)
        return logits


class TensorRTRTXSession(TensorRTSession):
    """A TensorRT-RTX engine in GPU memory; its kernels are compiled for the device when it is loaded."""

    family: ClassVar[str] = "tensorrt-rtx"


class _Loaded:
    """An engine on the device, with buffers for its largest batch.

    Attributes:
        max_batch: most images of one query.
    """

    def __init__(self, tensorrt: TensorRT, cuda: Cuda, model: bytes, spec: ModelSpec) -> None:
        self._tensorrt, self._cuda = tensorrt, cuda
        # Each needs the one before it as long as it lives.
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._sent = 0  # the batch the context is set to; none before the first query
        try:
            with cuda.current():
                self._load(model, spec)
        except BaseException:
            self.close()
            raise

    def _load(self, model: bytes, spec: ModelSpec) -> None:
        cuda, images, logits = self._cuda, spec.input.name, spec.output.name
        self._tensorrt.log.clear()
        self._runtime = self._tensorrt.create("Runtime")
        engine = self._runtime.deserialize_cuda_engine(model)
        self._engine = self._require(engine, "cannot load this engine, compile again for this device")
        _check_tensors(self._tensorrt, engine, spec)
        self._min_batch, self.max_batch = _batch_range(engine, images)
        context = engine.create_execution_context()
        self._context = self._require(context, "cannot get the memory this engine works in")

        self._stream = cuda.new_stream()
        self._events = [cuda.new_event() for _ in range(4)]
        self._images = cuda.pinned((self.max_batch, *tuple(engine.get_tensor_shape(images))[1:]), np.float32)
        self._logits = cuda.pinned((self.max_batch, *tuple(engine.get_tensor_shape(logits))[1:]), np.float32)
        self._device_images = cuda.device_buffer(self._images.nbytes)
        self._device_logits = cuda.device_buffer(self._logits.nbytes)
        for name, address in ((images, self._device_images), (logits, self._device_logits)):
            self._require(context.set_tensor_address(name, address), f"refuses the buffer of {name!r}")
        self._input = images

    def query(self, images: NDArray[np.float32], logits: NDArray[np.float32], timings: list[Timing] | None) -> None:
        """Fill ``logits`` (n, K) for ``images`` (n, C, H, W), n at most ``max_batch``; add the times to ``timings``."""
        cuda, stream = self._cuda, self._stream

        def mark(event: int) -> None:
            if timings is not None:
                cuda.record(event, stream)

        with cuda.current():
            self._images[: len(images)] = images
            # Below the engine's least batch the rows of earlier queries go along; what it says of them is not read.
            sent = max(len(images), self._min_batch)
            if sent != self._sent:
                shape = self._images[:sent].shape
                self._require(self._context.set_input_shape(self._input, shape), f"refuses images of shape {shape}")
                self._sent = sent
            submitted, copied_in, computed, copied_out = self._events
            started = time.perf_counter()
            mark(submitted)
            cuda.copy_in(self._device_images, self._images[:sent], stream)
            mark(copied_in)
            self._require(self._context.execute_async_v3(stream), "cannot run")
            mark(computed)
            cuda.copy_out(self._logits[:sent], self._device_logits, stream)
            mark(copied_out)
            enqueue_ms = (time.perf_counter() - started) * 1e3
            cuda.synchronize(stream)
            logits[:] = self._logits[: len(logits)]
            if timings is not None:
                h2d_ms = cuda.elapsed_ms(submitted, copied_in)
                compute_ms = cuda.elapsed_ms(copied_in, computed)
                d2h_ms = cuda.elapsed_ms(computed, copied_out)
                timings.append(Timing(h2d_ms, compute_ms, d2h_ms, enqueue_ms))

    def close(self) -> None:
        """Free the engine, then the memory it used."""
        with self._cuda.current():
            if self._sent:
                with suppress(BackendUnavailable):  # after Ctrl-C kernels may be under way; a failed device has none
                    self._cuda.synchronize(self._stream)
            self._context = self._engine = self._runtime = None
        self._cuda.close()

    def _require(self, result: Any, what: str) -> Any:
        """Return what a TensorRT call gave; None and False are its ways to fail."""
        if result is None or result is False:
            raise BackendUnavailable(f"{self._tensorrt} {what}: {self._tensorrt.log.last_error}")
        return result


def _check_tensors(tensorrt: TensorRT, engine: Any, spec: ModelSpec) -> None:
    """Raise BundleError unless the engine has the input and the output of ``spec`` and no other."""
    modes = tensorrt.module.TensorIOMode
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    for side, mode, want in (("input", modes.INPUT, spec.input), ("output", modes.OUTPUT, spec.output)):
        found = [name for name in names if engine.get_tensor_mode(name) == mode]
        if found != [want.name]:
            named = ", ".join(found) or "none"
            raise BundleError(f"expected an engine with the {side} {want.name!r}, found {named}; compile it again")
        dtype, shape = engine.get_tensor_dtype(want.name), tuple(engine.get_tensor_shape(want.name))
        if dtype != tensorrt.module.DataType.FLOAT or shape[1:] != want.shape[1:]:
            raise BundleError(
                f"expected the engine's {side} {want.name!r} to be float32 of shape {want.text()}, "
                f"found {dtype.name} of shape {shape}; compile it again"
            )


def _batch_range(engine: Any, name: str) -> tuple[int, int]:
    """Return the smallest and the largest batch of the engine's first profile; both are the batch where it is fixed."""
    batch = engine.get_tensor_shape(name)[0]
    if batch != -1:
        return batch, batch
    smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
    return smallest[0], largest[0]
