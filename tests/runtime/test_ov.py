"""Graphs for one size of batch: which sizes get them, and that answers are those of the graph for any size."""

import numpy as np
import pytest

from quillrt.runtime.backends import open_session, why_unavailable
from quillrt.runtime.session import SessionOptions

REASON = why_unavailable("openvino")
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def signs(n):
    return np.sign(np.random.default_rng(n).standard_normal((n, 1, 8, 8))).astype(np.float32)


@pytest.fixture
def made(monkeypatch):
    """The sizes that graphs were made for, -1 for any."""
    from quillrt.runtime.ov import OpenVINOSession

    found, compiled = [], OpenVINOSession._compiled

    def spy(self, model):
        size = model.input(0).partial_shape[0]
        found.append(-1 if size.is_dynamic else size.get_length())
        return compiled(self, model)

    monkeypatch.setattr(OpenVINOSession, "_compiled", spy)
    return found


def test_sizes_that_are_known_have_a_graph_of_their_own_and_all_others_share_one(made, quadrants):
    options = SessionOptions(threads=1, batch_sizes=(3, 1))
    with open_session("openvino", quadrants.onnx, quadrants.spec, options) as session:
        assert made == [3]
        for n in (3, 9, 1, 3, 7, 1, 9, 3):
            np.testing.assert_allclose(session.run(signs(n)), quadrants.logits(signs(n)), atol=1e-6)

    assert made == [3, -1, 1]


def test_where_no_size_is_known_one_graph_is_for_all(made, quadrants):
    with open_session("openvino", quadrants.onnx, quadrants.spec) as session:
        for n in (3, 3, 1, 3):
            np.testing.assert_allclose(session.run(signs(n)), quadrants.logits(signs(n)), atol=1e-6)

    assert made == [-1]


def test_a_file_for_one_size_is_taken_as_it_is(made, quadrants):
    import onnx

    model = onnx.load_from_string(quadrants.onnx)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2

    with open_session(
        "openvino", model.SerializeToString(), quadrants.spec, SessionOptions(batch_sizes=(1, 2))
    ) as session:
        for _ in range(3):
            np.testing.assert_allclose(session.run(signs(2)), quadrants.logits(signs(2)), atol=1e-6)

    assert made == [2]
