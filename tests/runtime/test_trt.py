"""The session's own logic, on the stand-in for the GPU of conftest.py."""

import types

import numpy as np
import pytest

from quillrt.runtime import trt
from quillrt.runtime.backends import BACKENDS
from quillrt.runtime.errors import BackendUnavailable, BundleError, SpecError
from quillrt.runtime.trt import TensorRTRTXSession, TensorRTSession


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
    for count in (1, 4, 3):
        session.run(_images(count))
    assert {address: memory.nbytes for address, memory in cuda.memory.items()} == before
    session.run(_images(9))  # in parts: their copies and kernels overlap in a second set
    for count in (9, 1, 50):
        session.run(_images(count))
    assert sorted(memory.nbytes for memory in cuda.memory.values()) == [4 * 3 * 4] * 2 + [4 * 16 * 4] * 2


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
        open_session(dtype=types.SimpleNamespace(name="HALF"))


def test_engine_that_does_not_run(open_session):
    session, _, _ = open_session(runs=False)
    with pytest.raises(BackendUnavailable, match=r"tensorrt 10\.3\.0 cannot run: expecting library"):
        session.run(_images(1))


def test_another_session_shares_the_engine_and_the_last_frees_it(open_session):
    session, engine, cuda = open_session()
    other = session.another()
    images = _images(3)
    np.testing.assert_array_equal(other.run(images), session.run(images))
    assert len(engine.contexts) == 2
    assert engine.contexts[0].addresses["image"] != engine.contexts[1].addresses["image"]
    cuda.close = lambda: None  # the stand-in is one GPU for both, and would be closed twice
    session.close()
    np.testing.assert_allclose(other.run(images), _expected(images), rtol=1e-6)
    assert other._engine.loaded is engine
    other.close()
    assert other._engine.loaded is None
    with pytest.raises(BackendUnavailable, match="found a closed one"):
        other.another()


@pytest.mark.tensorrt
def test_the_real_runtime_says_why_it_refuses_an_engine(monkeypatch, stand_ins):
    pytest.importorskip("tensorrt_rtx")
    cuda = stand_ins.cuda()
    monkeypatch.setattr(trt, "open_cuda", lambda device: cuda)
    with pytest.raises(BackendUnavailable, match=r"tensorrt-rtx [\d.]+ cannot load this engine.*magicTag") as caught:
        TensorRTRTXSession(b"this is no engine" * 9, stand_ins.spec)
    assert "\n" not in str(caught.value)
    assert cuda.closed


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_unavailable_without_gpu_says_why(monkeypatch, name):
    def no_gpu(device):
        raise BackendUnavailable("no NVIDIA driver (libcuda.so.1: no such file)")

    monkeypatch.setattr(trt, "find_gpu", no_gpu)
    cls = getattr(trt, BACKENDS[name].split(":")[1])
    assert cls.unavailable() == f"{name} needs an NVIDIA GPU: no NVIDIA driver (libcuda.so.1: no such file)"


def test_the_gpu_that_is_asked_for_is_the_one_that_is_tried(monkeypatch, stand_ins):
    tried, cuda = [], stand_ins.cuda()
    for name, answer in (("find_gpu", "a GPU"), ("open_cuda", cuda)):
        monkeypatch.setattr(trt, name, lambda device, name=name, answer=answer: tried.append((name, device)) or answer)
    monkeypatch.setattr(trt, "load", lambda family: None)
    assert TensorRTSession.unavailable(1) is None
    assert tried == [("find_gpu", 1), ("open_cuda", 1)]
    assert cuda.closed


def test_unavailable_says_what_to_install(monkeypatch):
    def missing(family):
        raise BackendUnavailable(f"{family} needs the package {family}: pip install 'quillrt[{family}]'")

    monkeypatch.setattr(trt, "find_gpu", lambda device: "a GPU")
    monkeypatch.setattr(trt, "load", missing)
    assert TensorRTSession.unavailable() == "tensorrt needs the package tensorrt: pip install 'quillrt[tensorrt]'"
