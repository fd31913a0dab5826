"""A stand-in for the GPU: numpy memory, and a stream that defers all until synchronized.

The stand-in engine sums each image and says what it was asked; everything else is the session's.
"""

import types
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from quillrt.runtime import trt
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec
from quillrt.runtime.tensorrt_api import Log, TensorRT
from quillrt.runtime.trt import TensorRTSession

SPEC = character_spec(("a", "b", "c"), Preprocessing(height=4, width=4))
INPUT, OUTPUT = "INPUT", "OUTPUT"
FLOAT = types.SimpleNamespace(name="FLOAT")


class FakeCuda:
    """Device memory is an array of its own; nothing queued happens before ``synchronize``."""

    name = "fake"

    def __init__(self):
        self.memory, self.queue, self.times = {}, [], {}
        self.inside, self.closed, self.events, self.clock = False, False, 0, 0

    @contextmanager
    def current(self):
        assert not self.closed
        self.inside = True
        yield
        self.inside = False

    def device_buffer(self, size_bytes):
        address = 1000 + len(self.memory)
        self.memory[address] = np.full(size_bytes, 0xFF, np.uint8)  # NaN in float32
        return address

    def pinned(self, shape, dtype):
        return np.zeros(shape, dtype)

    def new_stream(self):
        return 7

    def new_event(self):
        self.events += 1
        return self.events

    def enqueue(self, work, stream):
        assert self.inside
        assert stream == 7
        self.queue.append(work)

    def copy_in(self, address, host, stream):
        self.enqueue(lambda: np.copyto(self.memory[address][: host.nbytes], host.reshape(-1).view(np.uint8)), stream)

    def copy_out(self, host, address, stream):
        self.enqueue(lambda: np.copyto(host.reshape(-1).view(np.uint8), self.memory[address][: host.nbytes]), stream)

    def record(self, event, stream):
        self.enqueue(lambda: self.times.__setitem__(event, self.clock), stream)

    def elapsed_ms(self, start, end):
        return float(self.times[end] - self.times[start])

    def synchronize(self, stream):
        for work in self.queue:
            self.clock += 1
            work()
        self.queue.clear()

    def close(self):
        assert not self.closed
        self.closed = True


class FakeEngine:
    """An engine and its execution context in one: logits k of an image are its sum times k + 1."""

    def __init__(self, cuda, batches=(1, 2, 4), names=("image", "logits"), dtype=FLOAT, size=4, runs=True):
        self.cuda, self.batches, self.names, self.dtype, self.size, self.runs = cuda, batches, names, dtype, size, runs
        self.shapes, self.addresses = [], {}

    @property
    def num_io_tensors(self):
        return len(self.names)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return INPUT if name == self.names[0] else OUTPUT

    def get_tensor_dtype(self, name):
        return self.dtype

    def get_tensor_shape(self, name):
        batch = -1 if len(set(self.batches)) > 1 else self.batches[0]
        return (batch, 1, self.size, self.size) if name == self.names[0] else (batch, 3)

    def get_tensor_profile_shape(self, name, profile_index):
        return [(batch, 1, 4, 4) for batch in self.batches]

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name, memory):
        self.addresses[name] = memory
        return True

    def set_input_shape(self, name, shape):
        self.shapes.append(shape)
        return self.batches[0] <= shape[0] <= self.batches[2]

    def execute_async_v3(self, stream_handle):
        self.cuda.enqueue(partial(self.compute, self.shapes[-1][0]), stream_handle)
        return self.runs

    def compute(self, rows):
        images = self.cuda.memory[self.addresses["image"]].view(np.float32).reshape(-1, 16)[:rows]
        logits = self.cuda.memory[self.addresses["logits"]].view(np.float32).reshape(-1, 3)[:rows]
        logits[:] = images.sum(axis=1, keepdims=True) * [1, 2, 3]


@pytest.fixture
def stand_ins():
    """The classes that stand in for the GPU and for the engine, and the model they are of."""
    return types.SimpleNamespace(cuda=FakeCuda, engine=FakeEngine, spec=SPEC)


@pytest.fixture
def open_session(monkeypatch):
    """Return a function that opens a session over a stand-in engine and returns session, engine and GPU."""

    def open_session(cls=TensorRTSession, loads=True, **engine_options):
        cuda, log = FakeCuda(), Log()
        engine = FakeEngine(cuda, **engine_options) if loads else None

        class Runtime:
            def __init__(self, logger):
                pass

            def deserialize_cuda_engine(self, serialized_engine):
                log.take("ERROR", "expecting library version 10.3 got 11.4")
                return engine

        module = types.SimpleNamespace(
            Runtime=Runtime,
            TensorIOMode=types.SimpleNamespace(INPUT=INPUT, OUTPUT=OUTPUT),
            DataType=types.SimpleNamespace(FLOAT=FLOAT),
        )
        monkeypatch.setattr(trt, "load", lambda family: TensorRT(family, module, "10.3.0", log, None))
        monkeypatch.setattr(trt, "open_cuda", lambda device: cuda)
        try:
            return cls(b"engine", SPEC), engine, cuda
        except Exception:
            assert cuda.closed
            raise

    return open_session
