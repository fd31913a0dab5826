"""A stand-in for the GPU: numpy memory, streams that defer all until synchronized, graphs that replay.

The stand-in engine's logits k of an image are its sum times k + 1; everything else is the session's.
"""

import types
from collections import defaultdict
from contextlib import contextmanager
from functools import partial

import numpy as np

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec

SPEC = character_spec(("a", "b", "c"), Preprocessing(height=4, width=4))
INPUT, OUTPUT = "INPUT", "OUTPUT"
FLOAT = types.SimpleNamespace(name="FLOAT")


class FakeCuda:
    """Device memory is an array of its own; what is queued happens when its stream is synchronized, or by ``step``."""

    name = "fake"

    def __init__(self, memory_bytes=1 << 20):
        self.memory_bytes = memory_bytes
        self.memory, self.times, self.graphs, self.launched = {}, {}, [], []
        self.queues = defaultdict(list)
        self.inside, self.closed, self.events, self.clock = 0, False, 0, 0
        self.recording = None
        self.fails_after = None  # queued items that are done before the device fails
        self.broken = False  # as after an illegal address: the device cannot even be made current
        self.progress = lambda: None  # called before each item: other streams may get ahead

    @contextmanager
    def current(self):
        assert not self.closed
        if self.broken:
            raise BackendUnavailable("CUDA failed (fake): cudaSetDevice says cudaErrorIllegalAddress")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @contextmanager
    def all_or_nothing(self):
        assert self.inside
        given = self.memory, self.queues, self.events
        self.memory, self.queues = dict(self.memory), self.queues.copy()
        try:
            yield
        except BaseException:
            self.memory, self.queues, self.events = given
            raise

    def device_buffer(self, size_bytes):
        assert self.inside
        if sum(memory.nbytes for memory in self.memory.values()) + size_bytes > self.memory_bytes:
            raise BackendUnavailable("CUDA failed (fake): cudaMalloc says cudaErrorMemoryAllocation")
        address = 1000 + len(self.memory)
        self.memory[address] = np.full(size_bytes, 0xFF, np.uint8)  # NaN in float32
        return address

    def pinned(self, shape, dtype):
        assert self.inside
        return np.zeros(shape, dtype)

    def new_stream(self):
        self.queues[7 + len(self.queues)] = []
        return max(self.queues)

    def new_event(self):
        self.events += 1
        return self.events

    def enqueue(self, work, stream):
        assert self.inside
        assert stream in self.queues
        (self.queues[stream] if self.recording is None else self.recording).append(work)

    def copy_in(self, address, host, stream):
        self.enqueue(lambda: np.copyto(self.memory[address][: host.nbytes], host.reshape(-1).view(np.uint8)), stream)

    def copy_out(self, host, address, stream):
        self.enqueue(lambda: np.copyto(host.reshape(-1).view(np.uint8), self.memory[address][: host.nbytes]), stream)

    def record(self, event, stream):
        self.enqueue(lambda: self.times.__setitem__(event, self.clock), stream)

    def elapsed_ms(self, start, end):
        return float(self.times[end] - self.times[start])

    def step(self, stream):
        """Do the next thing that ``stream`` was given."""
        if self.fails_after == 0:
            raise BackendUnavailable("CUDA failed (fake): cudaStreamSynchronize says cudaErrorIllegalAddress")
        if self.fails_after is not None:
            self.fails_after -= 1
        self.clock += 1
        self.queues[stream].pop(0)()

    def synchronize(self, stream):
        assert self.recording is None  # CUDA forbids it while a stream is captured
        while self.queues[stream]:
            self.progress()
            if self.queues[stream]:
                self.step(stream)

    def capture(self, stream, enqueue):
        assert not self.queues[stream]
        self.recording = []
        try:
            enqueue()
            self.graphs.append(self.recording)
        finally:
            self.recording = None
        return len(self.graphs) - 1

    def launch(self, graph, stream):
        self.launched.append(graph)
        for work in self.graphs[graph]:
            self.enqueue(work, stream)

    def close(self):
        assert not self.closed
        self.closed = True


class FakeContext:
    """An execution context; what was captured of it is void once its shape changes."""

    def __init__(self, engine, config):
        self.engine, self.config, self.addresses = engine, config, {}
        self.rows, self.captured, self.profile_index, self.profiler = None, None, 0, None

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self.profile_index = profile_index
        return True

    def set_tensor_address(self, name, memory):
        self.addresses[name] = memory
        return True

    def set_input_shape(self, name, shape):
        self.engine.shapes.append(shape)
        self.rows = shape[0]
        smallest, _, largest = self.engine.profiles[self.profile_index]
        return smallest <= shape[0] <= largest

    def execute_async_v3(self, stream_handle):
        cuda = self.engine.cuda
        if cuda.recording is not None:
            self.captured = self.rows
        cuda.enqueue(partial(self._compute, self.rows, cuda.recording is not None), stream_handle)
        return self.engine.answer()

    def _compute(self, rows, from_graph):
        assert not from_graph or self.captured == self.rows == rows, "the context was changed after its capture"
        memory = self.engine.cuda.memory
        images = memory[self.addresses["image"]].view(np.float32).reshape(-1, 16)[:rows]
        logits = memory[self.addresses["logits"]].view(np.float32).reshape(-1, 3)[:rows]
        logits[:] = images.sum(axis=1, keepdims=True) * [1, 2, 3]
        if self.profiler is not None:
            for name, ms in (("conv_myl0_1", 0.25), ("gemm_myl0_2", 0.5)):
                self.profiler.report_layer_time(name, ms)


class FakeEngine:
    """An engine with one or several profiles (smallest, best, largest batch)."""

    def __init__(
        self,
        cuda,
        batches=(1, 2, 4),
        profiles=None,
        names=("image", "logits"),
        dtype=FLOAT,
        size=4,
        runs=True,
        info="{}",
    ):
        self.cuda, self.names, self.dtype, self.size, self.runs = cuda, names, dtype, size, runs
        self.profiles = profiles or [batches]
        self.answer = lambda: self.runs
        self.info, self.shapes, self.contexts, self.config = info, [], [], None

    @property
    def num_io_tensors(self):
        return len(self.names)

    @property
    def num_optimization_profiles(self):
        return len(self.profiles)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return INPUT if name == self.names[0] else OUTPUT

    def get_tensor_dtype(self, name):
        return self.dtype

    def get_tensor_shape(self, name):
        batches = self.profiles[0]
        batch = -1 if len(set(batches)) > 1 else batches[0]
        return (batch, 1, self.size, self.size) if name == self.names[0] else (batch, 3)

    def get_tensor_profile_shape(self, name, profile_index):
        return [(batch, 1, 4, 4) for batch in self.profiles[profile_index]]

    def create_execution_context(self, runtime_config=None):
        self.contexts.append(FakeContext(self, runtime_config))
        return self.contexts[-1]

    def create_engine_inspector(self):
        return types.SimpleNamespace(get_engine_information=lambda _: self.info)

    def create_runtime_config(self):
        self.config = FakeRuntimeConfig()
        return self.config


class FakeRuntimeConfig:
    """TensorRT-RTX's: a strategy for CUDA graphs and the kernels compiled on the device."""

    def __init__(self):
        self.cuda_graph_strategy, self.cache = "DISABLED", None

    def create_runtime_cache(self):
        return FakeRuntimeCache()

    def set_runtime_cache(self, cache):
        self.cache = cache
        return True

    def get_runtime_cache(self):
        return self.cache


class FakeRuntimeCache:
    """Compiled kernels: what was read, and one more."""

    def __init__(self):
        self.content = b""

    def deserialize(self, blob):
        if not blob.startswith(b"kernels"):
            return False
        self.content = blob
        return True

    def serialize(self):
        return self.content or b"kernels of this GPU"
