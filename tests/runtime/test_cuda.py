"""The two CUDA layers: on real GPUs where there are some, else what they say and what they free."""

import ctypes
import sys
import types

import numpy as np
import pytest

from quillrt.runtime.cuda import PyCuda, open_cuda
from quillrt.runtime.cuda_python import CudaPython
from quillrt.runtime.device import find_gpus
from quillrt.runtime.errors import BackendUnavailable


def _no_gpu():
    try:
        find_gpus()
    except BackendUnavailable as error:
        return str(error)
    return ""


@pytest.mark.gpu
@pytest.mark.skipif(bool(_no_gpu()), reason=_no_gpu())
@pytest.mark.parametrize("layer", [PyCuda, CudaPython])
class TestOnGpu:
    @pytest.fixture
    def cuda(self, layer):
        try:
            cuda = layer(0)
        except ImportError as error:
            pytest.skip(str(error))
        yield cuda
        cuda.close()

    def test_copies_go_there_and_back(self, cuda):
        with cuda.current():
            stream = cuda.new_stream()
            there, back = cuda.pinned((300, 7), np.float32), cuda.pinned((300, 7), np.float32)
            assert not there.any()
            there[:] = np.random.default_rng(0).normal(size=there.shape)
            address = cuda.device_buffer(there.nbytes)
            cuda.copy_in(address, there, stream)
            cuda.copy_out(back[:200], address, stream)
            cuda.synchronize(stream)
        np.testing.assert_array_equal(back[:200], there[:200])
        assert not back[200:].any()

    def test_events_time_a_copy(self, cuda):
        with cuda.current():
            stream, start, end = cuda.new_stream(), cuda.new_event(), cuda.new_event()
            host = cuda.pinned((1 << 26,), np.uint8)
            address = cuda.device_buffer(host.nbytes)
            cuda.record(start, stream)
            cuda.copy_in(address, host, stream)
            cuda.record(end, stream)
            cuda.synchronize(stream)
            assert 0.1 < cuda.elapsed_ms(start, end) < 1000  # 64 MiB over 670 GB/s and 67 MB/s

    def test_too_much_memory_is_one_line(self, cuda):
        with pytest.raises(BackendUnavailable, match="CUDA failed") as caught, cuda.current():
            cuda.device_buffer(1 << 50)
        assert "\n" not in str(caught.value)

    def test_two_live_side_by_side(self, cuda, layer):
        layer(0).close()
        with cuda.current():
            assert cuda.device_buffer(1024) > 0

    def test_unknown_device(self, cuda, layer):
        with pytest.raises(BackendUnavailable, match="CUDA failed"):
            layer(1000)


@pytest.mark.skipif(not _no_gpu(), reason="there is a GPU")
def test_without_driver_the_call_and_its_error_are_named():
    pytest.importorskip("cuda.bindings.runtime")
    with pytest.raises(BackendUnavailable, match=r"CUDA failed \(.+\): \w+ says cudaError\w+"):
        CudaPython(0)


def test_every_function_used_exists():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    with_fake = set(vars(_runtime([])))
    assert not [name for name in with_fake if not hasattr(runtime, name)]


def test_neither_package(monkeypatch):
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable) as caught:
        open_cuda(0)
    message = str(caught.value)
    assert message.startswith("GPU memory needs the package pycuda or cuda-python (pycuda: ")
    assert message.endswith("pip install 'quillrt[tensorrt]'")


def _runtime(calls, refuse=None):
    """Return a stand-in for cuda-python's runtime module with host memory, which notes its calls."""
    heap = {}
    status = types.SimpleNamespace(name="cudaErrorMemoryAllocation")

    def function(name, answer=lambda *arguments: ()):
        def call(*arguments):
            calls.append((name, *arguments))
            return (status,) if name == refuse else (0, *answer(*arguments))

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


class TestCudaPythonOnStandIn:
    def test_copies_keep_to_the_array_given(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", _runtime([]))
        cuda = CudaPython(0)
        with cuda.current():
            there, back = cuda.pinned((2, 3), np.float32), cuda.pinned((2, 3), np.float32)
            there[:] = [[1, 2, 3], [4, 5, 6]]
            address, stream = cuda.device_buffer(there.nbytes), cuda.new_stream()
            cuda.copy_in(address, there, stream)
            cuda.copy_out(back[:1], address, stream)
        np.testing.assert_array_equal(back, [[1, 2, 3], [0, 0, 0]])

    def test_close_frees_all_it_gave_and_gives_the_device_back(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", _runtime(calls))
        cuda = CudaPython(0)
        with cuda.current():
            given = {
                ("cudaFreeHost", cuda.pinned((4,), np.float32).ctypes.data),
                ("cudaFree", cuda.device_buffer(16)),
                ("cudaStreamDestroy", cuda.new_stream()),
                ("cudaEventDestroy", cuda.new_event()),
            }
        calls.clear()
        cuda.close()
        assert calls[:2] == [("cudaGetDevice",), ("cudaSetDevice", 0)]
        assert set(calls[2:-1]) == given
        assert calls[-1] == ("cudaSetDevice", 3)

    def test_a_graph_holds_what_was_enqueued_and_is_freed(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", _runtime(calls))
        cuda = CudaPython(0)
        with cuda.current():
            stream = cuda.new_stream()
            calls.clear()
            graph = cuda.capture(stream, lambda: calls.append("enqueued"))
            cuda.launch(graph, stream)
        assert calls[:-1] == [
            ("cudaStreamBeginCapture", stream, "thread local"),
            "enqueued",
            ("cudaStreamEndCapture", stream),
            ("cudaGraphInstantiate", 70, 0),
            ("cudaGraphDestroy", 70),
            ("cudaGraphLaunch", 71, stream),
        ]
        calls.clear()
        cuda.close()
        assert ("cudaGraphExecDestroy", 71) in calls

    def test_a_capture_that_fails_is_ended(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", _runtime(calls))
        cuda = CudaPython(0)

        def fail():
            raise ZeroDivisionError

        with cuda.current(), pytest.raises(ZeroDivisionError):
            cuda.capture(5, fail)
        assert ("cudaStreamEndCapture", 5) in calls
        assert not [call for call in calls if call[0] == "cudaGraphInstantiate"]

    def test_a_refused_call_is_named(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", _runtime(calls, refuse="cudaMalloc"))
        cuda = CudaPython(0)
        with pytest.raises(BackendUnavailable) as caught, cuda.current():
            cuda.device_buffer(16)
        assert str(caught.value) == "CUDA failed (cuda-python): cudaMalloc says cudaErrorMemoryAllocation"
        assert calls[-1] == ("cudaSetDevice", 3)


class _Pycuda(types.ModuleType):
    """A stand-in for pycuda.driver with host memory, which notes what is freed."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.notes, self.refuses = [], False
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

        class Event:
            def record(self, stream):
                self.time = next(clock)

            def time_till(self, later):
                return later.time - self.time

        class Context:
            def push(self):
                notes.append("push")

            @staticmethod
            def pop():
                notes.append("pop")

            def detach(self):
                pass

        class Device:
            def __init__(self, index):
                if index:
                    raise _Pycuda.Error("cuDeviceGet failed:\ninvalid device ordinal")

            def retain_primary_context(self):
                return Context()

        def mem_alloc(size_bytes):
            if self.refuses:
                raise _Pycuda.Error("cuMemAlloc failed: out of memory")
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


class TestPyCudaOnStandIn:
    @pytest.fixture
    def driver(self, monkeypatch):
        driver = _Pycuda()
        monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        return driver

    def test_copies_events_and_what_is_freed(self, driver):
        cuda = open_cuda(0)
        assert cuda.name == "pycuda"
        with cuda.current():
            there, back = cuda.pinned((2, 3), np.float32), cuda.pinned((2, 3), np.float32)
            there[:] = [[1, 2, 3], [4, 5, 6]]
            address, stream = cuda.device_buffer(there.nbytes), cuda.new_stream()
            start, end = cuda.new_event(), cuda.new_event()
            cuda.record(start, stream)
            cuda.copy_in(address, there, stream)
            cuda.copy_out(back[:1], address, stream)
            cuda.record(end, stream)
            cuda.synchronize(stream)
            assert cuda.elapsed_ms(start, end) == 1
        np.testing.assert_array_equal(back, [[1, 2, 3], [0, 0, 0]])
        assert driver.notes == ["push", "synchronize", "pop"]
        driver.notes.clear()
        cuda.close()
        assert driver.notes == ["push", "free", "free", "free", "pop"]

    def test_graphs_are_cuda_pythons_on_pycudas_stream(self, driver, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", _runtime(calls))
        cuda = PyCuda(0)
        with cuda.current():
            stream = cuda.new_stream()
            cuda.launch(cuda.capture(stream, lambda: None), stream)
        assert ("cudaStreamBeginCapture", 40, "thread local") in calls
        assert ("cudaGraphLaunch", 71, 40) in calls
        cuda.close()
        assert ("cudaGraphExecDestroy", 71) in calls

    def test_graphs_without_cuda_python(self, driver, monkeypatch):
        for name in ("cuda", "cuda.bindings.runtime", "cuda.cudart"):
            monkeypatch.setitem(sys.modules, name, None)
        cuda = PyCuda(0)
        with pytest.raises(BackendUnavailable, match="CUDA graphs beside pycuda need the package cuda-python"):
            cuda.capture(40, lambda: None)

    def test_what_cuda_refuses_is_one_line(self, driver):
        with pytest.raises(BackendUnavailable, match=r"CUDA failed \(pycuda\): cuDeviceGet failed: invalid device"):
            PyCuda(1)
        cuda = PyCuda(0)
        driver.refuses = True
        with pytest.raises(BackendUnavailable, match="out of memory"), cuda.current():
            cuda.device_buffer(16)
