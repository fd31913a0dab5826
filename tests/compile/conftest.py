"""A small classifier made in code: convolution, ReLU, pooling, matrix product."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, character_spec


def make_classifier(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = {
        "conv.weight": rng.normal(0, 0.5, (4, 1, 3, 3)),
        "conv.bias": rng.normal(0, 0.5, 4),
        "fc.weight": rng.normal(0, 0.2, (3, 4 * 3 * 3)),
        "fc.bias": rng.normal(0, 0.5, 3),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()),
            numpy_helper.from_array(np.array([0, -1]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def classifier() -> onnx.ModelProto:
    return make_classifier()


@pytest.fixture
def spec() -> ModelSpec:
    return character_spec(("a", "b", "c"), Preprocessing(height=8, width=8, mean=0.5, std=0.5))
