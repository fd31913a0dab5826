"""The session's own logic, on a stand-in for the GPU: numpy memory, and a stream that defers all until synchronized.

The stand-in engine sums each image and says what it was asked; everything else is the session's.
"""

import types
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from quillrt.runtime import trt
from quillrt.runtime.backends import BACKENDS
from quillrt.runtime.errors import BackendUnavailable, BundleError, SpecError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec
from quillrt.runtime.tensorrt_api import Log, TensorRT
from quillrt.runtime.trt import TensorRTRTXSession, TensorRTSession

SPEC = character_spec(("a", "b", "c"), Preprocessing(height=4, width=4))
INPUT, OUTPUT = "INPUT", "OUTPUT"
FLOAT, HALF = types.SimpleNamespace(name="FLOAT"), types.SimpleNamespace(name="HALF")


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


def _images(count):
    return np.random.default_rng(count).normal(size=(count, 1, 4, 4)).astype(np.float32)


def _expected(images):
    return images.reshape(len(images), -1).sum(axis=1)[:, None] * np.array([1, 2, 3])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_batches_of_any_size(open_session, count):
    session, engine, _ = open_session()
    images = _images(count)
    logits = session.run(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, _expected(images), rtol=1e-6)
    assert max(shape[0] for shape in engine.shapes) <= 4


def test_results_outlive_the_next_query(open_session):
    session, _, _ = open_session()
    first, second = _images(4), _images(3)
    logits = session.run(first)
    session.run(second)
    np.testing.assert_allclose(logits, _expected(first), rtol=1e-6)


@pytest.mark.parametrize("batches", [(2, 4, 4), (4, 4, 4)], ids=["least batch of 2", "fixed batch of 4"])
def test_fewer_images_than_the_engine_takes(open_session, batches):
    session, engine, _ = open_session(batches=batches)
    for count in (4, 1, 5):
        images = _images(count)
        np.testing.assert_allclose(session.run(images), _expected(images), rtol=1e-6)
    assert min(shape[0] for shape in engine.shapes) == batches[0]


def test_images_need_not_be_contiguous(open_session):
    session, _, _ = open_session()
    images = _images(6)[::2].transpose(0, 1, 3, 2)
    np.testing.assert_allclose(session.run(images), _expected(images), rtol=1e-6)


def test_shape_is_set_only_when_it_changes(open_session):
    session, engine, _ = open_session()
    for count in (2, 2, 2, 3, 3):
        session.run(_images(count))
    assert [shape[0] for shape in engine.shapes] == [2, 3]


def test_device_buffers_are_made_once(open_session):
    session, _, cuda = open_session()
    before = {address: memory.nbytes for address, memory in cuda.memory.items()}
    assert sorted(before.values()) == [4 * 3 * 4, 4 * 16 * 4]
    for count in (1, 4, 9):
        session.run(_images(count))
    assert {address: memory.nbytes for address, memory in cuda.memory.items()} == before


def test_timing_is_the_sum_over_parts(open_session):
    session, _, _ = open_session()
    images = _images(10)  # in parts of 4, 4 and 2
    logits, timing = session.run_timed(images)
    np.testing.assert_allclose(logits, _expected(images), rtol=1e-6)
    # The stand-in's clock ticks once per queued item, and the mark after each item is the second tick.
    assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (6, 6, 6)
    assert timing.enqueue_ms > 0


def test_wrong_images_are_refused_before_the_device(open_session):
    session, engine, _ = open_session()
    for images in (_images(2).astype(np.float64), _images(2)[:, :, :3], _images(0), _images(2) * np.nan):
        with pytest.raises(SpecError):
            session.run(images)
    assert not engine.shapes


def test_close_frees_once_and_ends_the_session(open_session):
    session, _, cuda = open_session()
    session.run(_images(1))
    session.close()
    assert cuda.closed
    session.close()
    with pytest.raises(BackendUnavailable, match="found a closed one"):
        session.run(_images(1))


def test_with_closes_after_an_error(open_session):
    session, _, cuda = open_session()
    with pytest.raises(ZeroDivisionError), session:
        raise ZeroDivisionError
    assert cuda.closed


def test_engine_of_another_version(open_session):
    with pytest.raises(BackendUnavailable, match=r"tensorrt-rtx 10\.3\.0 cannot load this engine.*got 11\.4"):
        open_session(TensorRTRTXSession, loads=False)


def test_engine_of_another_model(open_session):
    with pytest.raises(BundleError, match="expected an engine with the input 'image', found pixels"):
        open_session(names=("pixels", "logits"))
    with pytest.raises(BundleError, match="expected an engine with the output 'logits', found logits, features"):
        open_session(names=("image", "logits", "features"))


def test_engine_for_another_image_size(open_session):
    with pytest.raises(BundleError, match=r"of shape \(N, 1, 4, 4\), found FLOAT of shape \(-1, 1, 5, 5\)"):
        open_session(size=5)


def test_engine_with_half_precision_ends(open_session):
    with pytest.raises(BundleError, match=r"'image' to be float32 of shape \(N, 1, 4, 4\), found HALF of shape \(-1"):
        open_session(dtype=HALF)


def test_engine_that_does_not_run(open_session):
    session, _, _ = open_session(runs=False)
    with pytest.raises(BackendUnavailable, match=r"tensorrt 10\.3\.0 cannot run: expecting library"):
        session.run(_images(1))


@pytest.mark.tensorrt
def test_the_stand_in_has_the_methods_of_the_real_classes():
    real = pytest.importorskip("tensorrt_rtx")
    names = {name for name in vars(FakeEngine) if name.split("_")[0] in ("get", "set", "create", "execute", "num")}
    assert len(names) == 10
    assert not [n for n in names if not hasattr(real.ICudaEngine, n) and not hasattr(real.IExecutionContext, n)]


@pytest.mark.tensorrt
def test_the_real_runtime_says_why_it_refuses_an_engine(monkeypatch):
    pytest.importorskip("tensorrt_rtx")
    cuda = FakeCuda()
    monkeypatch.setattr(trt, "open_cuda", lambda device: cuda)
    with pytest.raises(BackendUnavailable, match=r"tensorrt-rtx [\d.]+ cannot load this engine.*magicTag") as caught:
        TensorRTRTXSession(b"this is no engine" * 9, SPEC)
    assert "\n" not in str(caught.value)
    assert cuda.closed


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_unavailable_without_gpu_says_why(monkeypatch, name):
    def no_gpus():
        raise BackendUnavailable("no NVIDIA driver (libcuda.so.1: no such file)")

    monkeypatch.setattr(trt, "find_gpus", no_gpus)
    cls = getattr(trt, BACKENDS[name].split(":")[1])
    assert cls.unavailable() == f"{name} needs an NVIDIA GPU: no NVIDIA driver (libcuda.so.1: no such file)"


def test_unavailable_says_what_to_install(monkeypatch):
    def missing(family):
        raise BackendUnavailable(f"{family} needs the package {family}: pip install 'quillrt[{family}]'")

    monkeypatch.setattr(trt, "find_gpus", lambda: ("a GPU",))
    monkeypatch.setattr(trt, "load", missing)
    assert TensorRTSession.unavailable() == "tensorrt needs the package tensorrt: pip install 'quillrt[tensorrt]'"
