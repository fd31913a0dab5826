"""Sessions over TensorRT and TensorRT-RTX engines: numpy in, numpy out."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import astuple
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from .cuda import Cuda, open_cuda
from .device import find_gpu
from .errors import BackendUnavailable
from .pending import Pending
from .session import CLOSED, Session, SessionOptions
from .spec import ModelSpec
from .tensorrt_api import load
from .trt_engine import Engine, profile_for
from .trt_inspect import inspect_engine, layer_times
from .trt_lane import Lane, Timing
from .trt_layers import LayerInfo, LayerTime

_LANES = 2  # while the kernels of one query run, the copies of the next do
_S = TypeVar("_S", bound="TensorRTSession")


class TensorRTSession(Session):
    """A TensorRT engine in GPU memory; one thread at a time uses it."""

    family: ClassVar[str] = "tensorrt"

    @classmethod
    def unavailable(cls, device: int = 0) -> str | None:
        """Return why engines of this family cannot run on the GPU ``device`` and what to install, or ``None``."""
        try:
            find_gpu(device)
        except BackendUnavailable as error:
            return f"{cls.family} needs an NVIDIA GPU: {error}"
        try:
            load(cls.family)
            open_cuda(device).close()
        except BackendUnavailable as error:
            return str(error)
        return None

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        """Load the engine ``model``.

        Raises:
            BackendUnavailable: TensorRT, a GPU or memory is missing, or the engine is for another device or version.
            BundleError: the engine's input and output are not those of ``spec``.
        """
        tensorrt, cuda = load(self.family), open_cuda(options.device)
        try:
            engine = Engine(tensorrt, cuda, model, spec, options)
        except BaseException:
            cuda.close()
            raise
        self._begin(engine, cuda, options)

    @property
    def spec(self) -> ModelSpec:
        """What goes in and what comes out."""
        return self._engine.spec

    def another(self: _S) -> _S:
        """Return a session on the same engine, with buffers and streams of its own, for another thread.

        Raises:
            BackendUnavailable: the memory it works in cannot be had, or this session is closed.
        """
        self._check_open()
        other, cuda = type(self).__new__(type(self)), open_cuda(self._options.device)
        other._begin(self._engine.shared(), cuda, self._options)
        return other

    def _begin(self, engine: Engine, cuda: Cuda, options: SessionOptions) -> None:
        self._engine, self._cuda, self._options = engine, cuda, options
        self._lanes: dict[int, list[Lane]] = {}  # by profile
        self._full: set[int] = set()  # profiles for which there is no memory for one more lane
        self._is_open = True
        try:
            self._lane(profile_for(engine.profiles, 1))  # what is lacking shows now
        except BaseException:
            self.close()
            raise

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32 (N, K) for images float32 (N, C, H, W); N may exceed the engine's largest batch.

        Raises:
            SpecError: the batch has another type or shape, is empty or holds NaN.
            BackendUnavailable: the device failed, or the session is closed.
        """
        return self.infer_async(batch).result()

    def infer_async(self, batch: NDArray[np.float32]) -> Pending:
        """Submit a query and return at once; its copies run while the kernels of the one before do.

        ``batch`` may be used again when this returns. More than two queries on their way: the oldest is waited for.

        Raises:
            SpecError: as ``run``.
            BackendUnavailable: as ``run``.
        """
        self._check(batch)
        pending = Pending(len(batch), len(self.spec.labels))
        profile = profile_for(self._engine.profiles, len(batch))
        step = self._engine.profiles[profile].largest
        for start in range(0, len(batch), step):
            rows = slice(start, min(start + step, len(batch)))
            self._lane(profile).send(batch[rows], pending, rows)
        return pending

    def run_timed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], Timing]:
        """Return ``run``'s logits, and where the time went: the sum over the parts of a batch that was cut.

        The parts run one after the other, and without CUDA graphs of our own.

        Raises:
            SpecError: as ``run``.
            BackendUnavailable: as ``run``.
        """
        self._check(batch)
        profile = profile_for(self._engine.profiles, len(batch))
        step, lane = self._engine.profiles[profile].largest, self._lane(profile)
        parts = [lane.timed(batch[start : start + step]) for start in range(0, len(batch), step)]
        timings = zip(*(astuple(timing) for _, timing in parts), strict=True)
        return np.concatenate([logits for logits, _ in parts]), Timing(*map(sum, timings))

    def layers(self) -> tuple[LayerInfo, ...]:
        """Return the engine's kernels as its inspector tells; empty where it was built to keep them to itself.

        Raises:
            BackendUnavailable: the session is closed.
        """
        self._check_open()
        with self._cuda.current():
            return inspect_engine(self._engine.tensorrt.module, self._engine.loaded)

    def layer_times(self, batch: NDArray[np.float32], queries: int) -> tuple[LayerTime, ...]:
        """Return what each layer takes of a query, in the mean of ``queries``, at most the largest batch at a time.

        Raises:
            SpecError: as ``run``.
            BackendUnavailable: as ``run``.
        """
        self._check(batch)
        profile = profile_for(self._engine.profiles, len(batch))
        images, lane = batch[: self._engine.profiles[profile].largest], self._lane(profile)
        return layer_times(
            self._engine.tensorrt.module,
            lambda profiler: lane.run_with(profiler, images, queries),
            queries,
            self.layers(),
        )

    def close(self) -> None:
        """Free the memory, and the engine if no other session uses it; a second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        with suppress(BackendUnavailable), ExitStack() as device:
            with suppress(BackendUnavailable):  # a failed one cannot be made current, and has nothing left to free
                device.enter_context(self._cuda.current())
            for lanes in self._lanes.values():
                for lane in lanes:
                    lane.close()
            self._lanes.clear()
            self._engine.release()
        self._cuda.close()

    def _lane(self, profile: int) -> Lane:
        """Return a lane with nothing on its way, a new one while there are few, or else the one that is oldest."""
        lanes = self._lanes.setdefault(profile, [])
        free = next((lane for lane in lanes if lane.is_free), None)
        if free is not None:
            return free
        if len(lanes) < _LANES and profile not in self._full:
            graphs = self._options.cuda_graph and not self._engine.captures_itself
            try:
                lanes.append(Lane(self._engine, self._cuda, profile, graphs=graphs))
                return lanes[-1]
            except BackendUnavailable:
                if not lanes:
                    raise
                self._full.add(profile)  # queries then wait for one another
        lanes.append(lanes.pop(0))
        return lanes[-1]

    def _check(self, batch: NDArray[np.float32]) -> None:
        self._check_open()
        self.spec.input.check(batch)

    def _check_open(self) -> None:
        if not self._is_open:
            raise BackendUnavailable(CLOSED)


class TensorRTRTXSession(TensorRTSession):
    """A TensorRT-RTX engine in GPU memory; its kernels are compiled for the device, and kept in ``options.cache``."""

    family: ClassVar[str] = "tensorrt-rtx"
