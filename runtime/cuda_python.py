"""Memory, streams, events and graphs on one GPU by cuda-python: see ``cuda.Cuda``."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import BackendUnavailable


class CudaPython:
    """``Cuda`` by cuda-python, on the runtime API, whose context is the primary one."""

    name = "cuda-python"

    def __init__(self, device: int) -> None:
        self._runtime = _cuda_runtime()
        self._device = device
        self._frees: list[tuple[str, int]] = []
        self._graphs = Graphs()
        with self.current():
            self._call("cudaFree", 0)  # before CUDA 12 cudaSetDevice alone does not make the context

    @contextmanager
    def current(self) -> Iterator[None]:
        before = self._call("cudaGetDevice")
        self._call("cudaSetDevice", self._device)
        try:
            yield
        except BaseException:
            self._runtime.cudaSetDevice(before)  # fails too after a failed kernel, whose error is the one to tell
            raise
        if before != self._device:
            self._call("cudaSetDevice", before)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        before = len(self._frees)
        try:
            yield
        except BaseException:
            self._free(before)
            raise

    def device_buffer(self, size_bytes: int) -> int:
        return self._give("cudaFree", self._call("cudaMalloc", size_bytes))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        address = self._give("cudaFreeHost", self._call("cudaMallocHost", size_bytes))
        memory = memoryview((ctypes.c_byte * size_bytes).from_address(address))
        array: NDArray[Any] = np.frombuffer(memory, np.dtype(dtype)).reshape(shape)
        array.fill(0)
        return array

    def new_stream(self) -> int:
        return self._give("cudaStreamDestroy", self._call("cudaStreamCreate"))

    def new_event(self) -> int:
        return self._give("cudaEventDestroy", self._call("cudaEventCreate"))

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, host.ctypes.data, host.nbytes, kind, stream)

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, address, host.nbytes, kind, stream)

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._call("cudaEventElapsedTime", start, end))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        return self._graphs.capture(stream, enqueue)

    def launch(self, graph: int, stream: int) -> None:
        self._graphs.launch(graph, stream)

    def close(self) -> None:
        with suppress(BackendUnavailable), self.current():
            self._graphs.close()
            self._free()

    def _free(self, left: int = 0) -> None:
        """Free all but the first ``left``."""
        while len(self._frees) > left:
            name, handle = self._frees.pop()
            getattr(self._runtime, name)(handle)  # after a failed kernel these fail too: its error was raised

    def _give(self, free: str, handle: Any) -> int:
        """Remember how to free ``handle``, and return it as a number."""
        self._frees.append((free, int(handle)))
        return int(handle)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return the result of the runtime function ``name``."""
        return _call(self._runtime, name, *arguments)


class Graphs:
    """CUDA graphs, on streams of either layer; their device is current when they are called."""

    def __init__(self) -> None:
        self._runtime = _cuda_runtime()
        self._executables: list[int] = []

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """Return a graph of what ``enqueue`` gives to ``stream``; see ``Cuda.capture``."""
        # Thread-local: what other threads do with the device, such as torch allocating, does not end the capture.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call(self._runtime, "cudaStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except BaseException:
            self._runtime.cudaStreamEndCapture(stream)  # fails too, but leaves the stream fit for use
            raise
        graph = _call(self._runtime, "cudaStreamEndCapture", stream)
        try:
            self._executables.append(int(_call(self._runtime, "cudaGraphInstantiate", graph, 0)))
        finally:
            self._runtime.cudaGraphDestroy(graph)
        return self._executables[-1]

    def launch(self, graph: int, stream: int) -> None:
        """Do what ``graph`` holds once ``stream`` gets there."""
        _call(self._runtime, "cudaGraphLaunch", graph, stream)

    def close(self) -> None:
        """Free all graphs."""
        while self._executables:
            self._runtime.cudaGraphExecDestroy(self._executables.pop())


def _call(runtime: Any, name: str, *arguments: Any) -> Any:
    """Return the result of the function ``name``.

    Raises:
        BackendUnavailable: CUDA refuses; the message names the call and its reason.
    """
    status, *results = getattr(runtime, name)(*arguments)
    if status != runtime.cudaError_t.cudaSuccess:
        raise BackendUnavailable(f"CUDA failed ({CudaPython.name}): {name} says {status.name}")
    return results[0] if results else None


def _cuda_runtime() -> Any:
    """Return cuda-python's runtime module; before 12.6 it had another name."""
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError:
        return import_module("cuda.cudart")
