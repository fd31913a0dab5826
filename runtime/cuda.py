"""Memory, streams and events on one GPU, by pycuda or by cuda-python, whichever is installed.

Both work in the device's primary context, so that a session lives in one process with torch, CuPy and other sessions.
"""

from __future__ import annotations

import atexit
import ctypes
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import BackendUnavailable


class Cuda(Protocol):
    """One GPU. All calls but ``close`` are made inside ``current``; what it gives lives until ``close``.

    Every method raises BackendUnavailable, which names the call and CUDA's reason, when the device refuses it.
    """

    name: str

    def current(self) -> AbstractContextManager[None]:
        """Make the device current for this thread while the block runs."""

    def device_buffer(self, size_bytes: int) -> int:
        """Return the address of new device memory."""

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return a new array of zeros in page-locked host memory, which copies need to run beside kernels."""

    def new_stream(self) -> int:
        """Return the handle of a new stream, a ``cudaStream_t`` as TensorRT takes it."""

    def new_event(self) -> int:
        """Return a new event with timing."""

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        """Copy a contiguous array to device memory once ``stream`` gets there."""

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        """Fill a contiguous array from device memory once ``stream`` gets there."""

    def record(self, event: int, stream: int) -> None:
        """Note the time at which ``stream`` gets there."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Return the time between two recorded events that the stream has passed."""

    def synchronize(self, stream: int) -> None:
        """Wait until ``stream`` has done all it was given."""

    def close(self) -> None:
        """Free all that was given."""


def open_cuda(device: int) -> Cuda:
    """Return the GPU with index ``device``.

    Raises:
        BackendUnavailable: neither pycuda nor cuda-python is installed, or there is no driver or no such GPU.
    """
    missing = []
    for layer in (PyCuda, CudaPython):
        try:
            return layer(device)
        except ImportError as error:
            missing.append(f"{layer.name}: {error}")
    raise BackendUnavailable(
        f"GPU memory needs the package pycuda or cuda-python ({'; '.join(missing)}): pip install 'quillrt[tensorrt]'"
    )


class PyCuda:
    """``Cuda`` by pycuda, on the driver API."""

    name = "pycuda"

    def __init__(self, device: int) -> None:
        self._driver: Any = import_module("pycuda.driver")
        self._allocations: list[Any] = []
        self._streams: dict[int, Any] = {}
        self._events: list[Any] = []
        try:
            self._context = _primary_context(self._driver, device)
        except self._driver.Error as error:
            raise self._unavailable(error) from error

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise self._unavailable(error) from error
        finally:
            self._driver.Context.pop()

    def device_buffer(self, size_bytes: int) -> int:
        allocation = self._driver.mem_alloc(size_bytes)
        self._allocations.append(allocation)
        return int(allocation)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        array: NDArray[Any] = self._driver.pagelocked_empty(shape, np.dtype(dtype))
        self._allocations.append(array.base)
        array.fill(0)
        return array

    def new_stream(self) -> int:
        stream = self._driver.Stream()
        handle = int(stream.handle)
        self._streams[handle] = stream
        return handle

    def new_event(self) -> int:
        self._events.append(self._driver.Event())
        return len(self._events) - 1

    def copy_in(self, address: int, host: NDArray[Any], stream: int) -> None:
        self._driver.memcpy_htod_async(address, host, self._streams[stream])

    def copy_out(self, host: NDArray[Any], address: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(host, address, self._streams[stream])

    def record(self, event: int, stream: int) -> None:
        self._events[event].record(self._streams[stream])

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._events[start].time_till(self._events[end]))

    def synchronize(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def close(self) -> None:
        with self.current():
            for allocation in self._allocations:
                allocation.free()
            # pycuda destroys streams and events when the last reference goes, and wants their context current.
            self._allocations.clear()
            self._streams.clear()
            self._events.clear()

    def _unavailable(self, error: Exception) -> BackendUnavailable:
        return BackendUnavailable(f"CUDA failed ({self.name}): {' '.join(str(error).split())}")


@cache
def _primary_context(driver: Any, device: int) -> Any:
    """Return pycuda's hold on the primary context of ``device``.

    It lasts as long as the process, like the CUDA runtime's own: a context that pycuda lets go of stays current on the
    thread, and would be in the way of whoever works with another device there.
    """
    driver.init()
    context = driver.Device(device).retain_primary_context()
    atexit.register(context.detach)
    return context


class CudaPython:
    """``Cuda`` by cuda-python, on the runtime API, whose context is the primary one."""

    name = "cuda-python"

    def __init__(self, device: int) -> None:
        self._runtime = _cuda_runtime()
        self._device = device
        self._frees: list[tuple[str, int]] = []
        with self.current():
            self._call("cudaFree", 0)  # before CUDA 12 cudaSetDevice alone does not make the context

    @contextmanager
    def current(self) -> Iterator[None]:
        before = self._call("cudaGetDevice")
        self._call("cudaSetDevice", self._device)
        try:
            yield
        finally:
            if before != self._device:
                self._call("cudaSetDevice", before)

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

    def close(self) -> None:
        with self.current():
            while self._frees:
                name, handle = self._frees.pop()
                getattr(self._runtime, name)(handle)  # after a failed kernel these fail too: its error was raised

    def _give(self, free: str, handle: Any) -> int:
        """Remember how to free ``handle``, and return it as a number."""
        self._frees.append((free, int(handle)))
        return int(handle)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return the result of the runtime function ``name``."""
        status, *results = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise BackendUnavailable(f"CUDA failed ({self.name}): {name} says {status.name}")
        return results[0] if results else None


def _cuda_runtime() -> Any:
    """Return cuda-python's runtime module; before 12.6 it had another name."""
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError:
        return import_module("cuda.cudart")
