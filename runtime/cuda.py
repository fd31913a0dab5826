"""Memory, streams and events on one GPU, by pycuda or by cuda-python, whichever is installed.

Both work in the device's primary context, so that a session lives in one process with torch, CuPy and other sessions.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .cuda_python import CudaPython, Graphs
from .errors import BackendUnavailable


class Cuda(Protocol):
    """One GPU. All calls but ``close`` are made inside ``current``; what it gives lives until ``close``.

    Every method raises BackendUnavailable, which names the call and CUDA's reason, when the device refuses it.
    """

    name: str

    def current(self) -> AbstractContextManager[None]:
        """Make the device current for this thread while the block runs."""

    def all_or_nothing(self) -> AbstractContextManager[None]:
        """Free what the block was given if it fails."""

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

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """Return a CUDA graph of what ``enqueue`` gives to ``stream``, none of which is done yet."""

    def launch(self, graph: int, stream: int) -> None:
        """Do what ``graph`` holds once ``stream`` gets there."""

    def close(self) -> None:
        """Free all that was given; a failed device, whose error was raised, has nothing left to free."""


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
        f"GPU memory needs the package pycuda or cuda-python ({'; '.join(missing)}): pip install pycuda, which nvcc "
        "compiles, or the cuda-python of the driver's CUDA version"
    )


class PyCuda:
    """``Cuda`` by pycuda, on the driver API."""

    name = "pycuda"

    def __init__(self, device: int) -> None:
        self._driver: Any = import_module("pycuda.driver")
        self._allocations: list[Any] = []
        self._streams: dict[int, Any] = {}
        self._events: list[Any] = []
        self._graphs: Graphs | None = None
        self._context = self._call(_primary_context, self._driver, device)

    @contextmanager
    def current(self) -> Iterator[None]:
        try:
            self._context.push()
            try:
                yield
            except BaseException:
                with suppress(self._driver.Error):  # fails too after a failed kernel, whose error is the one to tell
                    self._driver.Context.pop()
                raise
            self._driver.Context.pop()
        except self._driver.Error as error:
            raise self._unavailable(error) from error

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        before = len(self._allocations), len(self._streams), len(self._events)
        try:
            yield
        except BaseException:
            self._free(*before)
            raise

    def device_buffer(self, size_bytes: int) -> int:
        allocation = self._call(self._driver.mem_alloc, size_bytes)
        self._allocations.append(allocation)
        return int(allocation)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        array: NDArray[Any] = self._call(self._driver.pagelocked_empty, shape, np.dtype(dtype))
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

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        return self._with_graphs().capture(stream, enqueue)

    def launch(self, graph: int, stream: int) -> None:
        self._with_graphs().launch(graph, stream)

    def close(self) -> None:
        with suppress(BackendUnavailable), self.current():
            if self._graphs is not None:
                self._graphs.close()
            self._free()

    def _free(self, allocations: int = 0, streams: int = 0, events: int = 0) -> None:
        """Free all but the first so many of each."""
        # pycuda destroys streams and events when the last reference goes, and wants their context current.
        del self._events[events:]
        for stream in [*self._streams][streams:]:
            del self._streams[stream]
        while len(self._allocations) > allocations:
            self._allocations.pop().free()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function of pycuda's gives."""
        try:
            return function(*arguments)
        except self._driver.Error as error:
            raise self._unavailable(error) from error

    def _with_graphs(self) -> Graphs:
        """Return cuda-python's graphs, for pycuda has none."""
        if self._graphs is None:
            try:
                self._graphs = Graphs()
            except ImportError as error:
                raise BackendUnavailable(
                    f"CUDA graphs beside pycuda need the package cuda-python ({error}): pip install cuda-python"
                ) from error
        return self._graphs

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
