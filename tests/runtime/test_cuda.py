"""The two CUDA layers: on real GPUs where there are some, else what they say and what they free."""

import sys
from contextlib import suppress

import numpy as np
import pytest

from quillrt.runtime.cuda import PyCuda, open_cuda
from quillrt.runtime.cuda_python import CudaPython
from quillrt.runtime.device import find_gpus
from quillrt.runtime.errors import BackendUnavailable

from .fake_cuda import runtime


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
    real = pytest.importorskip("cuda.bindings.runtime")
    assert not [name for name in vars(runtime([])) if not hasattr(real, name)]


@pytest.mark.skipif(not _no_gpu(), reason="addresses that are none are not for a real driver")
def test_the_real_package_takes_every_call_and_gives_as_many_results(monkeypatch):
    real = pytest.importorskip("cuda.bindings.runtime")
    calls = []
    stand_in = runtime(calls)
    stand_in.cudaMemcpyKind, stand_in.cudaStreamCaptureMode = real.cudaMemcpyKind, real.cudaStreamCaptureMode
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", stand_in)
    cuda = CudaPython(0)
    with cuda.current():
        stream, start, end = cuda.new_stream(), cuda.new_event(), cuda.new_event()
        host = cuda.pinned((4,), np.float32)
        address = cuda.device_buffer(host.nbytes)
        cuda.record(start, stream)
        cuda.copy_in(address, host, stream)
        cuda.copy_out(host, address, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
        cuda.elapsed_ms(start, end)
        cuda.launch(cuda.capture(stream, lambda: None), stream)
    cuda.close()

    assert {name for name, *_ in calls} == {name for name, member in vars(stand_in).items() if callable(member)} - {
        "cudaMemcpyKind",
        "cudaStreamCaptureMode",
    }
    for name, *arguments in list(calls):
        answer = getattr(real, name)(*arguments)  # what is of the wrong type is a TypeError, driver or not
        assert answer[0] != real.cudaError_t.cudaSuccess
        assert len(answer) == len(getattr(stand_in, name)(*arguments)), name


def test_neither_package(monkeypatch):
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable) as caught:
        open_cuda(0)
    message = str(caught.value)
    assert message.startswith("GPU memory needs the package pycuda or cuda-python (pycuda: ")
    assert message.endswith("pip install pycuda, which nvcc compiles, or the cuda-python of the driver's CUDA version")


class TestCudaPythonOnStandIn:
    def test_copies_keep_to_the_array_given(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime([]))
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
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls))
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
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls))
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
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls))
        cuda = CudaPython(0)

        def fail():
            raise ZeroDivisionError

        with cuda.current(), pytest.raises(ZeroDivisionError):
            cuda.capture(5, fail)
        assert ("cudaStreamEndCapture", 5) in calls
        assert not [call for call in calls if call[0] == "cudaGraphInstantiate"]

    def test_a_refused_call_is_named(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls, refuse=["cudaMalloc"]))
        cuda = CudaPython(0)
        with pytest.raises(BackendUnavailable) as caught, cuda.current():
            cuda.device_buffer(16)
        assert str(caught.value) == "CUDA failed (cuda-python): cudaMalloc says cudaErrorMemoryAllocation"
        assert calls[-1] == ("cudaSetDevice", 3)

    def test_what_fails_in_the_middle_frees_what_it_was_given_and_no_more(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls))
        cuda = CudaPython(0)
        with cuda.current():
            kept = cuda.device_buffer(16)
            with suppress(ZeroDivisionError), cuda.all_or_nothing():
                given, stream = cuda.device_buffer(16), cuda.new_stream()
                calls.clear()
                raise ZeroDivisionError
            assert calls == [("cudaStreamDestroy", stream), ("cudaFree", given)]
        calls.clear()
        cuda.close()
        assert calls[2:-1] == [("cudaFree", kept)]

    @pytest.mark.parametrize("broken", ["cudaGetDevice", "cudaSetDevice"])
    def test_a_broken_device_closes_in_silence_and_hides_no_error(self, monkeypatch, broken):
        refuse = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime([], refuse))
        cuda = CudaPython(0)

        def breaks(stream):
            refuse.extend(["cudaStreamSynchronize", broken])
            cuda.synchronize(stream)

        with pytest.raises(BackendUnavailable, match="cudaStreamSynchronize says"), cuda.current():
            breaks(5)
        cuda.close()
        with pytest.raises(BackendUnavailable, match=f"{broken} says"), cuda.current():
            pass

    def test_a_graph_that_cannot_be_made_executable_is_freed(self, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls, refuse=["cudaGraphInstantiate"]))
        cuda = CudaPython(0)
        with pytest.raises(BackendUnavailable, match="cudaGraphInstantiate says"), cuda.current():
            cuda.capture(5, lambda: None)
        assert ("cudaGraphDestroy", 70) in calls
