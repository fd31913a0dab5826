"""BF16 graphs against ml_dtypes' bfloat16 and against FP32 answers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.bf16 import to_bf16
from quillrt.compile.names import clean
from quillrt.runtime.errors import ExportError


def test_weights_are_bfloat16_and_ends_stay_fp32(classifier) -> None:
    original = clean(classifier)
    typed = to_bf16(original)
    onnx.checker.check_model(typed)
    weights = {t.name: numpy_helper.to_array(t) for t in typed.graph.initializer}
    for tensor in original.graph.initializer:
        expected = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT:
            expected = expected.astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(weights[tensor.name], expected)
    ends = [*typed.graph.input, *typed.graph.output]
    assert {v.type.tensor_type.elem_type for v in ends} == {TensorProto.FLOAT}
    assert original == clean(classifier)


def test_all_that_computes_is_bfloat16(classifier) -> None:
    """By ONNX's own inference, which knows convolutions of BF16 from opset 22 on."""
    classifier.opset_import[0].version = 22
    typed = onnx.shape_inference.infer_shapes(to_bf16(clean(classifier)), strict_mode=True)
    between = {v.name: v.type.tensor_type.elem_type for v in typed.graph.value_info}
    assert set(between.values()) == {TensorProto.BFLOAT16}


def test_answers_differ_by_bfloat16_only(classifier) -> None:
    batch = np.random.default_rng(0).normal(size=(16, 1, 8, 8)).astype(np.float32)
    expected, found = (
        ReferenceEvaluator(m).run(None, {"image": batch})[0] for m in (classifier, to_bf16(clean(classifier)))
    )
    difference = np.abs(found.astype(np.float32) - expected).max()
    assert 0 < difference < 20 * 2**-8 * np.abs(expected).max()


@pytest.mark.parametrize("operator", ["Cast", "Constant"])
def test_types_that_stand_in_attributes(operator: str) -> None:
    """A cast to FP32, or a constant of it, beside a BF16 tensor would be a sum of two types."""
    node = {
        "Cast": helper.make_node("Cast", ["whole"], ["other"], to=TensorProto.FLOAT),
        "Constant": helper.make_node("Constant", [], ["other"], value=numpy_helper.from_array(np.ones(2, np.float32))),
    }[operator]
    graph = helper.make_graph(
        [node, helper.make_node("Add", ["image", "other"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([1, 1]), "whole")],
    )
    typed = to_bf16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    onnx.shape_inference.infer_shapes(typed, strict_mode=True)
    (found,) = ReferenceEvaluator(typed).run(None, {"image": np.array([[1, 2]], np.float32)})
    np.testing.assert_array_equal(found, [[2, 3]])


def test_an_input_that_goes_straight_out_is_still_there() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["logits"]), helper.make_node("Neg", ["logits"], ["more"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("logits", "more")],
    )
    typed = to_bf16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    found = ReferenceEvaluator(typed).run(None, {"image": np.array([[1, -2]], np.float32)})
    np.testing.assert_array_equal(found, [[[1, 0]], [[-1, 0]]])


def test_a_recurrent_layer_is_refused() -> None:
    gru = helper.make_node("GRU", ["image", "w", "r"], ["", "logits"], "gru", hidden_size=4)
    graph = helper.make_graph(
        [gru],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [5, "batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "batch", 4])],
        [
            numpy_helper.from_array(np.ones((1, 12, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones((1, 12, 4), np.float32), "r"),
        ],
    )
    with pytest.raises(ExportError, match=r"found gru \(GRU\), which .*; leave bf16 out"):
        to_bf16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
