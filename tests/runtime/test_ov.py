"""Graphs for one size of batch: which sizes get them, and that answers are those of the graph for any size."""

import numpy as np
import pytest

from quillrt.runtime.backends import open_session, why_unavailable
from quillrt.runtime.session import SessionOptions

pytestmark = pytest.mark.skipif(why_unavailable("openvino") is not None, reason=str(why_unavailable("openvino")))


def batch_of(n):
    return np.random.default_rng(n).choice(np.array([-1, 1], np.float32), (n, 1, 8, 8))


@pytest.fixture
def made(monkeypatch):
    """The sizes that graphs were made for, -1 for any."""
    from quillrt.runtime.ov import OpenVINOSession

    found, compiled = [], OpenVINOSession._compile

    def spy(self, model):
        size = model.input(0).partial_shape[0]
        found.append(-1 if size.is_dynamic else size.get_length())
        return compiled(self, model)

    monkeypatch.setattr(OpenVINOSession, "_compile", spy)
    return found


def test_the_first_two_sizes_that_come_again_have_a_graph_of_their_own(made, quadrants):
    with open_session("openvino", quadrants.onnx, quadrants.spec, SessionOptions(threads=1)) as session:
        for n in (9, 3, 1, 3, 3, 5, 7, 1, 5, 5, 7, 7, 5, 3, 1, 9, 9, 1):
            np.testing.assert_allclose(session.run(batch_of(n)), quadrants.logits(batch_of(n)), atol=1e-6)

    assert made == [-1, 3, 1]


def test_a_graph_for_one_size_needs_no_other(made, quadrants):
    import onnx

    model = onnx.load_from_string(quadrants.onnx)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2

    with open_session("openvino", model.SerializeToString(), quadrants.spec) as session:
        for _ in range(3):
            np.testing.assert_allclose(session.run(batch_of(2)), quadrants.logits(batch_of(2)), atol=1e-6)

    assert made == [2]
