"""Sessions on the stand-in for the GPU."""

import types

import pytest

from quillrt.runtime import trt, trt_engine
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.tensorrt_api import Log, TensorRT
from quillrt.runtime.trt import TensorRTSession

from .fake_gpu import FLOAT, INPUT, OUTPUT, SPEC, FakeCuda, FakeEngine


class FakeProfiler:
    """TensorRT's IProfiler."""


@pytest.fixture
def stand_ins():
    """The classes that stand in for the GPU and for the engine, and the model they are of."""
    return types.SimpleNamespace(cuda=FakeCuda, engine=FakeEngine, spec=SPEC)


@pytest.fixture
def open_session(monkeypatch):
    """Return a function that opens a session over a stand-in engine and returns session, engine and GPU."""

    def open_session(cls=TensorRTSession, loads=True, options=SessionOptions(), memory_bytes=1 << 20, **engine_options):
        cuda, log = FakeCuda(memory_bytes), Log()
        engine = FakeEngine(cuda, **engine_options) if loads else None

        class Runtime:
            def __init__(self, logger):
                self.engine_host_code_allowed = False

            def deserialize_cuda_engine(self, serialized_engine):
                module.host_code = self.engine_host_code_allowed
                log.take("ERROR", "expecting library version 10.3 got 11.4")
                return engine

        module = types.SimpleNamespace(
            Runtime=Runtime,
            IProfiler=FakeProfiler,
            TensorIOMode=types.SimpleNamespace(INPUT=INPUT, OUTPUT=OUTPUT),
            DataType=types.SimpleNamespace(FLOAT=FLOAT),
            LayerInformationFormat=types.SimpleNamespace(JSON="JSON"),
        )
        if cls.family == "tensorrt-rtx":
            module.ComputeCapability = None
            module.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="WHOLE_GRAPH_CAPTURE")
        tensorrt = TensorRT(cls.family, module, "10.3.0", log, None)
        monkeypatch.setattr(trt, "load", lambda family: tensorrt)
        monkeypatch.setattr(trt, "open_cuda", lambda device: cuda)
        monkeypatch.setattr(trt_engine, "find_gpu", lambda device: f"GPU {device}")
        open_session.module = module
        try:
            return cls(b"engine", SPEC, options), engine, cuda
        except Exception:
            assert cuda.closed
            raise

    return open_session
