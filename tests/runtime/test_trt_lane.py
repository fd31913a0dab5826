"""What a session does where memory ends, and what it owes to queries under way, on the stand-in for the GPU."""

import numpy as np
import pytest

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.session import SessionOptions

GRAPHS = SessionOptions(cuda_graph=True)
ONE_LANE = 4 * (4 * 16 + 4 * 3)  # bytes of four images and of their logits


def images_of(count, seed=0):
    return np.random.default_rng([count, seed]).normal(size=(count, 1, 4, 4)).astype(np.float32)


def logits_of(images):
    return images.reshape(len(images), -1).sum(axis=1)[:, None] * np.array([1, 2, 3])


def held(cuda):
    """Return how many streams, events and device buffers there are."""
    return len(cuda.queues), cuda.events, len(cuda.memory)


def test_with_memory_for_one_lane_queries_wait_for_one_another(open_session):
    session, engine, cuda = open_session(memory_bytes=2 * ONE_LANE - 1)
    for count in (4, 9, 30):
        images = images_of(count)
        np.testing.assert_allclose(session.run(images), logits_of(images), rtol=1e-6)
    assert held(cuda) == (1, 4, 2)
    queries = [images_of(3, seed) for seed in range(4)]
    for images, pending in [(images, session.infer_async(images)) for images in queries]:
        np.testing.assert_allclose(pending.result(), logits_of(images), rtol=1e-6)
    assert len(engine.contexts) == 1


def test_a_lane_whose_context_is_refused_leaves_nothing_behind_and_is_asked_for_once(open_session):
    session, engine, cuda = open_session()
    asked = []
    engine.create_execution_context = lambda *config: asked.append(config)  # None: TensorRT's way to refuse
    for count in (9, 13):
        images = images_of(count)
        np.testing.assert_allclose(session.run(images), logits_of(images), rtol=1e-6)
    assert held(cuda) == (1, 4, 2)
    assert len(asked) == 1


def test_without_memory_for_the_first_lane_nothing_runs_and_nothing_is_kept(open_session):
    session, _, cuda = open_session(profiles=[(1, 2, 4), (5, 8, 8)], memory_bytes=ONE_LANE)
    before = held(cuda)
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="expected memory for 8 images at a time"):
            session.run(images_of(7))
    assert held(cuda) == before
    np.testing.assert_allclose(session.run(images_of(4)), logits_of(images_of(4)), rtol=1e-6)


def test_sizes_for_whose_graphs_there_is_no_memory_run_without(open_session):
    session, engine, cuda = open_session(options=GRAPHS)
    asked, create = [], engine.create_execution_context

    def two(*config):
        asked.append(config)
        return create(*config) if len(engine.contexts) < 2 else None

    engine.create_execution_context = two
    for count in (2, 3, 4, 3, 2):
        images = images_of(count)
        np.testing.assert_allclose(session.run(images), logits_of(images), rtol=1e-6)
    assert cuda.launched == [0]  # the size whose context was the last to be had
    assert len(asked) == 2


def test_layers_are_timed_after_the_queries_under_way(open_session):
    session, _, _ = open_session()
    queries = [images_of(4, 1), images_of(4, 2)]
    pending = [session.infer_async(images) for images in queries]
    session.layer_times(images_of(4, 3), 2)
    for images, answer in zip(queries, pending, strict=True):
        np.testing.assert_allclose(answer.result(), logits_of(images), rtol=1e-6)


def test_the_first_query_of_a_context_is_in_no_layers_time(open_session):
    session, engine, cuda = open_session()
    seen, execute = [], type(cuda).step

    def step(stream):
        seen.append(engine.contexts[-1].profiler is not None)
        execute(cuda, stream)

    cuda.step = step
    session.layer_times(images_of(4), 3)
    assert seen == [False] * 2 + [True] * 6  # each a copy and the kernels


class TestClosing:
    def test_a_broken_device_is_let_go_of_in_silence(self, open_session):
        session, _, cuda = open_session()
        pending = session.infer_async(images_of(4))
        cuda.broken = True
        session.close()
        assert cuda.closed
        assert session._engine.loaded is None
        with pytest.raises(BackendUnavailable, match="cudaErrorIllegalAddress"):
            pending.result()

    def test_the_error_that_broke_the_device_is_the_one_that_is_told(self, open_session):
        session, _, cuda = open_session()

        def breaks():
            cuda.fails_after, cuda.broken = 0, True

        cuda.progress = breaks
        with pytest.raises(BackendUnavailable, match="cudaStreamSynchronize says cudaErrorIllegalAddress"), session:
            session.run(images_of(4))
        assert cuda.closed
