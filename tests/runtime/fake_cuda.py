"""Stand-ins for cuda-python's runtime module and pycuda's driver, with host memory, which note what they are asked."""

import ctypes
import types

import numpy as np


def runtime(calls, refuse=()):
    """Return a stand-in for cuda-python's runtime module with host memory, which notes its calls and refuses some."""
    heap = {}
    status = types.SimpleNamespace(name="cudaErrorMemoryAllocation")

    def function(name, answer=lambda *arguments: ()):
        def call(*arguments):
            calls.append((name, *arguments))
            return (status,) if name in refuse else (0, *answer(*arguments))

        return call

    def allocate(size_bytes):
        block = (ctypes.c_byte * size_bytes)(*[1] * size_bytes)
        heap[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    def copy(to, source, size_bytes, kind, stream):
        ctypes.memmove(to, source, size_bytes)
        return ()

    return types.SimpleNamespace(
        cudaError_t=types.SimpleNamespace(cudaSuccess=0),
        cudaMemcpyKind=types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
        cudaGetDevice=function("cudaGetDevice", lambda: (3,)),
        cudaSetDevice=function("cudaSetDevice"),
        cudaMalloc=function("cudaMalloc", allocate),
        cudaFree=function("cudaFree"),
        cudaMallocHost=function("cudaMallocHost", allocate),
        cudaFreeHost=function("cudaFreeHost"),
        cudaStreamCreate=function("cudaStreamCreate", lambda: (50,)),
        cudaStreamDestroy=function("cudaStreamDestroy"),
        cudaStreamSynchronize=function("cudaStreamSynchronize"),
        cudaEventCreate=function("cudaEventCreate", lambda: (60,)),
        cudaEventDestroy=function("cudaEventDestroy"),
        cudaEventRecord=function("cudaEventRecord"),
        cudaEventElapsedTime=function("cudaEventElapsedTime", lambda start, end: (0.25,)),
        cudaMemcpyAsync=function("cudaMemcpyAsync", copy),
        cudaStreamCaptureMode=types.SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread local"),
        cudaStreamBeginCapture=function("cudaStreamBeginCapture"),
        cudaStreamEndCapture=function("cudaStreamEndCapture", lambda stream: (70,)),
        cudaGraphInstantiate=function("cudaGraphInstantiate", lambda graph, flags: (71,)),
        cudaGraphDestroy=function("cudaGraphDestroy"),
        cudaGraphLaunch=function("cudaGraphLaunch"),
        cudaGraphExecDestroy=function("cudaGraphExecDestroy"),
    )


class PycudaDriver(types.ModuleType):
    """A stand-in for pycuda.driver with host memory, which notes what is freed."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.notes, self.refuses, self.broken = [], False, False
        notes, heap, clock = self.notes, {}, iter(range(1000))

        class Allocation:
            def __init__(self, size_bytes):
                self.block = (ctypes.c_byte * size_bytes)(*[1] * size_bytes)
                heap[int(self)] = self.block

            def __int__(self):
                return ctypes.addressof(self.block)

            def free(self):
                notes.append("free")

        class Stream:
            handle = 40

            def synchronize(self):
                notes.append("synchronize")

            def __del__(self):
                notes.append("stream destroyed")

        class Event:
            def record(self, stream):
                self.time = next(clock)

            def time_till(self, later):
                return later.time - self.time

        def check():
            if self.broken:
                raise PycudaDriver.Error("cuCtxPushCurrent failed: an illegal memory access was encountered")

        class Context:
            def push(self):
                check()
                notes.append("push")

            @staticmethod
            def pop():
                check()
                notes.append("pop")

            def detach(self):
                pass

        class Device:
            def __init__(self, index):
                if index:
                    raise PycudaDriver.Error("cuDeviceGet failed:\ninvalid device ordinal")

            def retain_primary_context(self):
                return Context()

        def mem_alloc(size_bytes):
            if self.refuses:
                raise PycudaDriver.Error("cuMemAlloc failed: out of memory")
            return Allocation(size_bytes)

        def pagelocked_empty(shape, dtype):
            allocation = Allocation(int(np.prod(shape)) * dtype.itemsize)
            flat = np.ctypeslib.as_array(allocation.block).view(dtype)

            class Pinned(np.ndarray):
                base = allocation

            return flat.reshape(shape).view(Pinned)

        self.init = lambda: None
        self.Device, self.Context, self.Stream, self.Event = Device, Context, Stream, Event
        self.mem_alloc, self.pagelocked_empty = mem_alloc, pagelocked_empty
        self.memcpy_htod_async = lambda address, host, stream: ctypes.memmove(address, host.ctypes.data, host.nbytes)
        self.memcpy_dtoh_async = lambda host, address, stream: ctypes.memmove(host.ctypes.data, address, host.nbytes)
