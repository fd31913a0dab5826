"""Queries that overlap, CUDA graphs, several profiles and failures in the middle, on the stand-in for the GPU."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quillrt.runtime.cache import Cache
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.trt import TensorRTRTXSession
from quillrt.runtime.trt_engine import Batches, profile_for

GRAPHS = SessionOptions(cuda_graph=True)
PROFILES = [(1, 2, 4), (5, 8, 8)]
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _images(count, seed=0):
    return np.random.default_rng([count, seed]).normal(size=(count, 1, 4, 4)).astype(np.float32)


def _expected(images):
    return images.reshape(len(images), -1).sum(axis=1)[:, None] * np.array([1, 2, 3])


def test_a_query_is_submitted_before_the_one_before_it_is_done(open_session):
    session, _, cuda = open_session()
    first, second = _images(4), _images(3)
    pending = [session.infer_async(first), session.infer_async(second)]
    assert [len(queue) for queue in cuda.queues.values()] == [3, 3]  # copy in, kernels, copy out, on two streams
    np.testing.assert_allclose(pending[1].result(), _expected(second), rtol=1e-6)
    assert [len(queue) for queue in cuda.queues.values()] == [3, 0]
    np.testing.assert_allclose(pending[0].result(), _expected(first), rtol=1e-6)
    np.testing.assert_allclose(pending[0].result(), _expected(first), rtol=1e-6)  # as often as one likes


def test_the_images_may_change_once_a_query_is_submitted(open_session):
    session, _, _ = open_session()
    images = _images(4)
    expected = _expected(images)
    pending = session.infer_async(images)
    images[:] = 0
    np.testing.assert_allclose(pending.result(), expected, rtol=1e-6)


@relaxed
@given(
    counts=st.lists(st.integers(1, 19), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    graphs=st.booleans(),
    profiles=st.sampled_from([[(1, 2, 4)], PROFILES, [(3, 3, 3)], [(2, 4, 6)]]),
)
def test_any_queries_in_any_order_while_streams_run_as_they_like(open_session, counts, order, graphs, profiles):
    """Waited for in any order, with the streams of the GPU getting ahead of one another at will."""
    session, engine, cuda = open_session(profiles=profiles, options=SessionOptions(cuda_graph=graphs))

    def progress():
        busy = [stream for stream, queue in cuda.queues.items() if queue]
        for stream in order.sample(busy, order.randint(0, len(busy))):
            cuda.step(stream)

    cuda.progress = progress
    queries = [(_images(count, seed), count) for seed, count in enumerate(counts)]
    with session:
        pending = []
        for images, _ in queries:
            pending.append((session.infer_async(images), _expected(images)))
            while pending and order.random() < 0.4:
                answer, expected = pending.pop(order.randrange(len(pending)))
                np.testing.assert_allclose(answer.result(), expected, rtol=1e-5, atol=1e-5)
        for answer, expected in pending:
            np.testing.assert_allclose(answer.result(), expected, rtol=1e-5, atol=1e-5)
    taken = {shape[0] for shape in engine.shapes}
    assert all(any(low <= size <= high for low, _, high in profiles) for size in taken)
    assert len(cuda.memory) <= 2 * 2 * len(profiles)


class TestGraphs:
    def test_each_size_is_captured_once_and_launched_from_then_on(self, open_session):
        session, engine, cuda = open_session(options=GRAPHS)
        for count in (2, 2, 3, 2, 3, 3):
            images = _images(count)
            np.testing.assert_allclose(session.run(images), _expected(images), rtol=1e-6)
        assert len(cuda.graphs) == 2
        assert all(len(graph) == 3 for graph in cuda.graphs)  # copy in, kernels, copy out
        assert cuda.launched == [0, 0, 1, 1]  # the first query of a size runs as it is
        assert [shape[0] for shape in engine.shapes] == [2, 3]  # no captured context sees another size

    def test_there_are_not_more_than_memory_allows(self, open_session):
        session, _, cuda = open_session(batches=(1, 8, 40), options=GRAPHS)
        for count in [*range(1, 31), 30, 5]:
            images = _images(count)
            np.testing.assert_allclose(session.run(images), _expected(images), rtol=1e-6)
        assert len(cuda.graphs) == 16
        assert cuda.launched == [4]

    def test_timing_does_without(self, open_session):
        session, _, cuda = open_session(options=GRAPHS)
        for _ in range(3):
            logits, timing = session.run_timed(_images(2))
        np.testing.assert_allclose(logits, _expected(_images(2)), rtol=1e-6)
        assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (2, 2, 2)
        assert not cuda.graphs


class TestProfiles:
    def test_each_profile_has_its_buffers_and_takes_its_batches(self, open_session):
        session, engine, cuda = open_session(profiles=PROFILES)
        for count in (3, 7, 20):
            images = _images(count)
            np.testing.assert_allclose(session.run(images), _expected(images), rtol=1e-6)
        assert [shape[0] for shape in engine.shapes] == [
            3,
            7,
            8,
            8,
            5,
        ]  # 4 of 20 are left, and filled up
        assert [context.profile_index for context in engine.contexts] == [0, 1, 1]
        assert sorted(memory.nbytes for memory in cuda.memory.values()) == sorted(
            [4 * 12, 4 * 64, *[8 * 12] * 2, *[8 * 64] * 2]
        )

    @pytest.mark.parametrize(("count", "chosen"), [(1, 1), (4, 1), (5, 2), (16, 2), (17, 0), (64, 0), (65, 0)])
    def test_the_least_that_takes_the_batch(self, count, chosen):
        profiles = (Batches(17, 64), Batches(1, 4), Batches(4, 16))
        assert profile_for(profiles, count) == chosen

    def test_a_batch_below_all_is_filled_up(self):
        assert profile_for((Batches(8, 64), Batches(4, 16)), 2) == 1


class TestFailures:
    def test_a_copy_that_fails_fails_its_query_and_every_wait_for_it(self, open_session):
        session, _, cuda = open_session()
        first, second = session.infer_async(_images(4)), session.infer_async(_images(3))
        cuda.fails_after = 2  # the first query's copy back
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="cudaErrorIllegalAddress") as caught:
                first.result()
            assert "\n" not in str(caught.value)
        cuda.fails_after = None
        np.testing.assert_allclose(second.result(), _expected(_images(3)), rtol=1e-6)

    def test_a_failed_device_still_lets_the_session_close(self, open_session):
        session, _, cuda = open_session()
        session.infer_async(_images(4))
        cuda.fails_after = 0
        session.close()
        assert cuda.closed
        session.close()

    def test_a_query_that_was_not_waited_for_is_answered_before_the_session_closes(self, open_session):
        session, _, _ = open_session()
        pending = session.infer_async(_images(4))
        session.close()
        np.testing.assert_allclose(pending.result(), _expected(_images(4)), rtol=1e-6)

    def test_a_wait_that_is_interrupted_can_go_on(self, open_session):
        session, _, cuda = open_session()
        pending = session.infer_async(_images(4))

        def interrupt():
            raise KeyboardInterrupt

        cuda.progress = interrupt
        with pytest.raises(KeyboardInterrupt):
            pending.result()
        cuda.progress = lambda: None
        np.testing.assert_allclose(pending.result(), _expected(_images(4)), rtol=1e-6)

    def test_a_failed_device_fails_what_was_not_waited_for(self, open_session):
        session, _, cuda = open_session()
        pending = session.infer_async(_images(4))
        cuda.fails_after = 0
        session.close()
        with pytest.raises(BackendUnavailable, match="cudaErrorIllegalAddress"):
            pending.result()

    def test_kernels_that_are_refused_in_the_middle(self, open_session):
        session, engine, _ = open_session()
        images = _images(3)
        session.run(images)
        engine.runs = False
        with pytest.raises(BackendUnavailable, match=r"tensorrt 10\.3\.0 cannot run"):
            session.run(images)
        engine.runs = True
        np.testing.assert_allclose(session.run(images), _expected(images), rtol=1e-6)

    def test_a_capture_that_fails_ends(self, open_session):
        session, engine, cuda = open_session(options=GRAPHS)
        refuse = iter((True, False))
        engine.__class__ = type(
            "Refusing", (type(engine),), {"runs": property(lambda self: next(refuse, True), lambda *_: None)}
        )
        with pytest.raises(BackendUnavailable, match="cannot run"):
            session.run(_images(2))
        assert cuda.recording is None
        np.testing.assert_allclose(session.run(_images(2)), _expected(_images(2)), rtol=1e-6)

    def test_out_of_device_memory_is_one_line_and_frees_all(self, open_session):
        with pytest.raises(BackendUnavailable) as caught:
            open_session(memory_bytes=100)
        assert str(caught.value) == (
            "expected memory for 4 images at a time on the GPU, but CUDA failed (fake): cudaMalloc says "
            "cudaErrorMemoryAllocation; free some, or build with a smaller --shapes"
        )


class TestRtx:
    def test_it_captures_by_itself(self, open_session):
        session, engine, cuda = open_session(TensorRTRTXSession, options=GRAPHS)
        for _ in range(3):
            session.run(_images(2))
        assert engine.config.cuda_graph_strategy == "WHOLE_GRAPH_CAPTURE"
        assert engine.contexts[0].config is engine.config
        assert not cuda.graphs

    def test_without_graphs_the_strategy_stays(self, open_session):
        _, engine, _ = open_session(TensorRTRTXSession)
        assert engine.config.cuda_graph_strategy == "DISABLED"

    def test_compiled_kernels_are_kept_for_the_next_session(self, open_session, tmp_path):
        options = SessionOptions(cache=Cache(tmp_path / "cache"))
        open_session(TensorRTRTXSession, options=options)[0].close()
        (kept,) = (tmp_path / "cache").iterdir()
        assert kept.read_bytes().endswith(b"kernels of this GPU")
        session, engine, _ = open_session(TensorRTRTXSession, options=options)
        assert engine.config.cache.content == b"kernels of this GPU"
        written = kept.stat().st_ino
        session.close()
        assert kept.stat().st_ino == written  # nothing new was compiled

    def test_a_failed_device_has_none_to_keep(self, open_session, tmp_path):
        session, engine, _ = open_session(TensorRTRTXSession, options=SessionOptions(cache=Cache(tmp_path / "cache")))
        engine.config.cache.serialize = lambda: None
        session.close()
        assert not (tmp_path / "cache").exists()

    def test_compiled_kernels_are_those_of_the_sessions_gpu(self, open_session, tmp_path):
        keys = {
            open_session(TensorRTRTXSession, options=SessionOptions(device=device))[0]._engine._kernels._key
            for device in (0, 1, 1)
        }
        assert len(keys) == 2

    def test_kernels_that_it_does_not_know_are_compiled_again(self, open_session, tmp_path):
        options = SessionOptions(cache=Cache(tmp_path / "cache"))
        open_session(TensorRTRTXSession, options=options)[0].close()
        (kept,) = (tmp_path / "cache").iterdir()
        key = open_session(TensorRTRTXSession, options=options)[0]._engine._kernels._key
        options.cache.keep(b"of another version", *key)
        session, engine, _ = open_session(TensorRTRTXSession, options=options)
        assert engine.config.cache.content == b""
        session.close()
        assert kept.read_bytes().endswith(b"kernels of this GPU")


def test_host_code_is_allowed_only_where_it_was_asked_for(open_session):
    open_session()
    assert open_session.module.host_code is False
    open_session(options=SessionOptions(host_code=True))
    assert open_session.module.host_code is True


class TestLayers:
    INFO = (
        '{"Layers": [{"Name": "conv_myl0_1", "LayerType": "correlation", "Inputs": [{"Name": "x", "Datatype": "Int8", '
        '"Format": "NHWC"}], "Metadata": "[ONNX Layer: conv1]"}], "I/O Tensors": []}'
    )

    def test_layers_are_named_after_the_modules(self, open_session):
        session, _, _ = open_session(info=self.INFO)
        ((name, kind, nodes),) = [(layer.name, layer.datatype, layer.nodes) for layer in session.layers()]
        assert (name, kind, nodes) == ("conv_myl0_1", "int8", ("conv1",))

    def test_times_are_means_over_queries(self, open_session):
        session, engine, _ = open_session(info=self.INFO)
        times = session.layer_times(_images(9), 5)
        assert [(t.name, t.ms, t.datatype, t.nodes) for t in times] == [
            ("conv_myl0_1", 0.25, "int8", ("conv1",)),
            ("gemm_myl0_2", 0.5, "", ()),
        ]
        assert engine.contexts[-1].rows == 4  # the largest batch
