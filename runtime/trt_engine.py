"""A TensorRT engine in GPU memory, and how its execution contexts are made."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

from .cuda import Cuda
from .device import find_gpu
from .errors import BackendUnavailable, BundleError
from .session import SessionOptions
from .spec import ModelSpec
from .tensorrt_api import TensorRT


@dataclass(frozen=True)
class Batches:
    """The batch sizes of one optimization profile."""

    smallest: int
    largest: int


class Engine:
    """A loaded engine; the sessions on it share it, and the last one frees it.

    Args:
        tensorrt: that runs it.
        cuda: the GPU.
        model: the engine as its builder wrote it.
        spec: what goes in and comes out.
        options: of the first session.

    Attributes:
        tensorrt: as given.
        spec: as given.
        image_shape: channels, rows, columns.
        profiles: batch sizes by profile; a fixed batch makes one.

    Raises:
        BackendUnavailable: TensorRT refuses the engine.
        BundleError: its input and output are not those of ``spec``.
    """

    def __init__(self, tensorrt: TensorRT, cuda: Cuda, model: bytes, spec: ModelSpec, options: SessionOptions) -> None:
        self.tensorrt, self.spec = tensorrt, spec
        self._sessions, self._counting = 1, threading.Lock()
        self._config: Any = None
        self._kernels: _Kernels | None = None
        with cuda.current():
            tensorrt.log.clear()
            self._runtime = tensorrt.create("Runtime")
            if options.host_code:
                self._runtime.engine_host_code_allowed = True
            loaded = self._runtime.deserialize_cuda_engine(model)
            self._engine = self.require(loaded, "cannot load this engine, run quillrt build for this device")
            _check_tensors(tensorrt, self._engine, spec)
            self.image_shape: tuple[int, ...] = tuple(self._engine.get_tensor_shape(spec.input.name))[1:]
            self.profiles = _profiles(self._engine, spec.input.name)
            if tensorrt.portable:
                self._config = self._engine.create_runtime_config()
                if options.cuda_graph:
                    strategies = tensorrt.module.CudaGraphStrategy
                    self._config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
                self._kernels = _Kernels(self._config, options, model, tensorrt)

    @property
    def loaded(self) -> Any:
        """TensorRT's ``ICudaEngine``."""
        return self._engine

    @property
    def captures_itself(self) -> bool:
        """Its contexts make CUDA graphs by themselves where they are asked to (TensorRT-RTX)."""
        return self.tensorrt.portable

    def context(self, profile: int, stream: int) -> Any:
        """Return a new ``IExecutionContext`` on ``profile``, made ready by ``stream``.

        Raises:
            BackendUnavailable: the memory it works in cannot be had.
        """
        strategy = () if self._config is None else (self._config,)
        context = self.require(
            self._engine.create_execution_context(*strategy), "cannot get the memory this engine works in"
        )
        if profile:  # the first is there from the start
            self.require(context.set_optimization_profile_async(profile, stream), f"refuses its profile {profile}")
        return context

    def require(self, result: Any, what: str) -> Any:
        """Return what a TensorRT call gave; None and False are its ways to fail.

        Raises:
            BackendUnavailable: it failed; the message says what, and TensorRT's reason.
        """
        if result is None or result is False:
            raise BackendUnavailable(f"{self.tensorrt} {what}: {self.tensorrt.log.last_error}")
        return result

    def shared(self) -> Engine:
        """Return the engine for one more session, which lets go of it with ``release``."""
        with self._counting:
            self._sessions += 1
        return self

    def release(self) -> None:
        """Let go of the engine; the last session frees it."""
        with self._counting:
            self._sessions -= 1
            left = self._sessions
        if left == 0:
            if self._kernels is not None:
                self._kernels.keep()
            # In this order, for each needs the one behind it as long as it lives.
            self._kernels = self._config = self._engine = self._runtime = None


class _Kernels:
    """TensorRT-RTX's runtime cache, kept on disk: the kernels it compiled for this GPU."""

    def __init__(self, config: Any, options: SessionOptions, model: bytes, tensorrt: TensorRT) -> None:
        self._config, self._cache = config, options.cache
        self._key = ("kernels", hashlib.sha256(model).hexdigest(), str(tensorrt), repr(find_gpu(options.device)))
        self._known = self._cache.read(*self._key)
        compiled = config.create_runtime_cache()
        if self._known is not None and not compiled.deserialize(self._known):
            self._known = None
        config.set_runtime_cache(compiled)

    def keep(self) -> None:
        """Write what was compiled since the engine was loaded."""
        serialized = self._config.get_runtime_cache().serialize()
        compiled = self._known if serialized is None else bytes(serialized)  # None: a failed device
        if compiled is not None and compiled != self._known:
            self._cache.keep(compiled, *self._key)


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


def _profiles(engine: Any, name: str) -> tuple[Batches, ...]:
    """Return the batch sizes of each profile; where the batch is fixed, of the one there is."""
    batch = engine.get_tensor_shape(name)[0]
    if batch != -1:
        return (Batches(batch, batch),)
    shapes = [engine.get_tensor_profile_shape(name, index) for index in range(engine.num_optimization_profiles)]
    return tuple(Batches(smallest[0], largest[0]) for smallest, _, largest in shapes)


def profile_for(profiles: tuple[Batches, ...], count: int) -> int:
    """Return the profile for ``count`` images: the least that takes them, else the least they can be filled up to.

    Where none takes so many, it is the largest, and they go in parts.
    """
    order = sorted(range(len(profiles)), key=lambda index: (profiles[index].largest, profiles[index].smallest))
    taking = [index for index in order if profiles[index].smallest <= count <= profiles[index].largest]
    filled = [index for index in order if count <= profiles[index].largest]
    return (taking or filled or order[-1:])[0]
