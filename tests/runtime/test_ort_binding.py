"""I/O binding for real, on memory of the CPU: what differs on a GPU is where the buffers lie, and the CUDA graphs.

The graphs are played: a session that, as CUDA does, answers a graph it knows from the buffers it was captured with.
"""

import numpy as np
import pytest

from quillrt.runtime.ort_binding import Bindings

onnxruntime = pytest.importorskip("onnxruntime")


def batch_of(n, seed=0):
    return np.random.default_rng([n, seed]).normal(size=(n, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def session(quadrants):
    return onnxruntime.InferenceSession(quadrants.onnx, providers=["CPUExecutionProvider"])


@pytest.fixture
def allocated(monkeypatch):
    """The shapes of all OrtValues made."""
    shapes, make = [], onnxruntime.OrtValue.ortvalue_from_shape_and_type

    def count(shape, *arguments):
        shapes.append(tuple(shape))
        return make(shape, *arguments)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", count)
    return shapes


class Capturing:
    """onnxruntime's session on the CPU, with graphs: what was run once by a positive ID is run again as it was."""

    def __init__(self, session):
        self.session, self.graphs, self.ids = session, {}, []

    def io_binding(self):
        return self.session.io_binding()

    def run_with_iobinding(self, binding, options):
        graph = int(options.get_run_config_entry("gpu_graph_id"))
        self.ids.append(graph)
        captured = self.graphs.setdefault(graph, binding) if graph > 0 else binding
        self.session.run_with_iobinding(captured, options)


def test_answers_are_numpys_for_every_batch_size_in_any_order(session, quadrants):
    bindings = Bindings(session, quadrants.spec, ("cpu", 0), graphs=False)

    for seed, n in enumerate([1, 3, 64, 3, 1, 2, 64]):
        images = batch_of(n, seed)
        np.testing.assert_allclose(bindings.run(images), quadrants.logits(images), atol=1e-5)


def test_an_answer_is_the_callers_own(session, quadrants):
    bindings = Bindings(session, quadrants.spec, ("cpu", 0), graphs=False)

    first = bindings.run(batch_of(3))
    bindings.run(-batch_of(3))

    np.testing.assert_allclose(first, quadrants.logits(batch_of(3)), atol=1e-5)


def test_images_need_not_lie_in_one_piece(session, quadrants):
    images = batch_of(6)[::2, :, ::-1]

    logits = Bindings(session, quadrants.spec, ("cpu", 0), graphs=False).run(images)

    np.testing.assert_allclose(logits, quadrants.logits(images.copy()), atol=1e-5)


def test_memory_is_asked_for_once_for_each_of_the_first_sizes(session, quadrants, allocated):
    bindings = Bindings(session, quadrants.spec, ("cpu", 0), graphs=False)
    for _ in range(2):
        for n in range(1, 17):
            bindings.run(batch_of(n))

    assert allocated == [shape for n in range(1, 17) for shape in ((n, 1, 8, 8), (n, 4))]
    allocated.clear()

    for n in (17, 17, 18, 17, 5):
        bindings.run(batch_of(n))
    assert allocated == [shape for n in (17, 18, 17) for shape in ((n, 1, 8, 8), (n, 4))]


def test_each_batch_size_has_a_graph_and_its_addresses(session, quadrants):
    capturing = Capturing(session)
    bindings = Bindings(capturing, quadrants.spec, ("cpu", 0), graphs=True)

    for seed, n in enumerate([2, 5, 2, 5, 2]):
        images = batch_of(n, seed)
        np.testing.assert_allclose(bindings.run(images), quadrants.logits(images), atol=1e-5)
    assert capturing.ids == [1, 2, 1, 2, 1]


def test_sizes_beyond_the_kept_ones_are_never_captured(session, quadrants):
    capturing = Capturing(session)
    bindings = Bindings(capturing, quadrants.spec, ("cpu", 0), graphs=True)
    for n in range(1, 17):
        bindings.run(batch_of(n))
    assert capturing.ids == list(range(1, 17))

    for seed, n in enumerate([20, 21, 20, 3]):
        images = batch_of(n, seed)
        np.testing.assert_allclose(bindings.run(images), quadrants.logits(images), atol=1e-5)
    assert capturing.ids[16:] == [-1, -1, -1, 3]


def test_without_graphs_no_run_says_which(session, quadrants, monkeypatch):
    entries = []
    monkeypatch.setattr(
        onnxruntime.RunOptions, "add_run_config_entry", lambda self, *entry: entries.append(entry), raising=True
    )

    Bindings(session, quadrants.spec, ("cpu", 0), graphs=False).run(batch_of(1))

    assert entries == []
