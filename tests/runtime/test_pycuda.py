"""The layer on pycuda, on a stand-in for its driver."""

import sys
import types
from contextlib import suppress

import numpy as np
import pytest

from quillrt.runtime.cuda import PyCuda, open_cuda
from quillrt.runtime.errors import BackendUnavailable

from .fake_cuda import PycudaDriver, runtime


class TestPyCudaOnStandIn:
    @pytest.fixture
    def driver(self, monkeypatch):
        driver = PycudaDriver()
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
        assert driver.notes == ["push", "stream destroyed", "free", "free", "free", "pop"]

    def test_graphs_are_cuda_pythons_on_pycudas_stream(self, driver, monkeypatch):
        calls = []
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime(calls))
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
        with cuda.current(), pytest.raises(BackendUnavailable, match="out of memory"):
            cuda.device_buffer(16)

    def test_what_fails_in_the_middle_frees_what_it_was_given_and_no_more(self, driver):
        cuda = PyCuda(0)
        with cuda.current():
            stream, address = cuda.new_stream(), cuda.device_buffer(16)
            driver.notes.clear()
            with suppress(ZeroDivisionError), cuda.all_or_nothing():
                cuda.pinned((2,), np.float32), cuda.device_buffer(16), cuda.new_stream(), cuda.new_event()
                raise ZeroDivisionError
            assert sorted(driver.notes) == ["free", "free", "stream destroyed"]
            cuda.copy_in(address, np.zeros(4, np.float32), stream)
        driver.notes.clear()
        cuda.close()
        assert driver.notes == ["push", "stream destroyed", "free", "pop"]

    def test_a_broken_device_is_one_line_and_the_first_error_the_one_that_is_told(self, driver):
        cuda = PyCuda(0)

        def breaks():
            driver.broken = True
            raise driver.Error("first")

        with pytest.raises(BackendUnavailable, match=r"^CUDA failed \(pycuda\): first$"), cuda.current():
            breaks()
        with pytest.raises(BackendUnavailable, match=r"CUDA failed .* an illegal memory access"), cuda.current():
            pass
        cuda.close()
