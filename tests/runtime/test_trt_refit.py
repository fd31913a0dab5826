"""Weights put back into an engine, on the GPU that is asked for; tensorrt_contract/ holds the calls to the real API."""

import types

import pytest

from quillrt.runtime import trt_refit
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.tensorrt_api import Log, TensorRT
from quillrt.runtime.trt_refit import refit


@pytest.mark.parametrize("host_code", [False, True])
def test_an_engine_is_loaded_on_its_gpu_and_its_host_code_where_that_was_allowed(monkeypatch, stand_ins, host_code):
    cuda, seen = stand_ins.cuda(), []

    class Runtime:
        def __init__(self, logger):
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, engine):
            seen.append((self.engine_host_code_allowed, cuda.inside))

    tensorrt = TensorRT("tensorrt", types.SimpleNamespace(Runtime=Runtime), "10.3.0", Log(), None)
    monkeypatch.setattr(trt_refit, "load", lambda family: tensorrt)
    monkeypatch.setattr(trt_refit, "open_cuda", lambda device: seen.append(device) or cuda)
    with pytest.raises(BackendUnavailable, match="cannot load this engine, run quillrt build"):
        refit(b"engine", b"graph", "tensorrt", 1, host_code=host_code)
    assert seen == [1, (host_code, 1)]
