import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quillrt.benchmarks.contestants import Contestant
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec


@pytest.fixture
def spec():
    return character_spec(("a", "b", "c"), Preprocessing(height=4, width=4))


@pytest.fixture
def weight():
    return np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(20, 1, 4, 4)).astype(np.float32)


def _linear_model(weight):
    """An ONNX classifier: the flattened image times ``weight`` (16, K)."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def linear_model():
    return _linear_model


@pytest.fixture
def contestant(spec, weight):
    return Contestant("onnxruntime-cpu", "fp32", spec, _linear_model(weight))
