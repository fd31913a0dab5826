"""Graphs that are valid ONNX and unlike those of torch's exporter, through the passes."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.batchnorm import fold_batch_norms
from quillrt.compile.layers import literal_outputs
from quillrt.compile.macs import multiply_adds
from quillrt.compile.names import clean
from quillrt.compile.quantize import CPU, quantize
from quillrt.compile.search import Trial, options
from quillrt.compile.source import load_source
from quillrt.runtime.errors import ExportError

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 1, 6, 6)).astype(np.float32)


def graph(nodes, weights, output=("N", 3), opset=20):
    made = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model):
    onnx.checker.check_model(model, full_check=True)
    return ReferenceEvaluator(model).run(None, {"image": IMAGES})[0]


def normal(*shape):
    return RNG.normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), ()])
def test_a_gemm_whose_bias_is_a_row_or_one_number_for_all(shape):
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], "head"),
    ]
    model = graph(nodes, {"w": normal(36, 3), "b": normal(*shape)})
    typed, decisions = quantize(model, {"flat": (-4.0, 4.0)}, CPU)
    assert decisions[0].quantized
    np.testing.assert_allclose(run(typed), run(model), atol=0.15)


def test_a_convolutions_result_that_is_only_reshaped_into_the_logits_is_quantized():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["map"], "conv", kernel_shape=[6, 6]),
        helper.make_node("Reshape", ["map", "shape"], ["logits"], "reshape"),
    ]
    model = graph(nodes, {"w": normal(3, 1, 6, 6), "shape": np.array([0, -1])})
    typed, _ = quantize(model, {"image": (-4.0, 4.0), "map": (-9.0, 9.0)}, CPU)
    assert next(node for node in typed.graph.node if node.name == "reshape").input[0] == "map.dequantized"


def test_what_only_the_body_of_a_branch_reads_is_kept():
    branch = helper.make_graph(
        [helper.make_node("Add", ["map", "shift"], ["out"])],
        "then",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["map"], "conv", kernel_shape=[6, 6]),
        helper.make_node("If", ["yes"], ["either"], "if", then_branch=branch, else_branch=branch),
        helper.make_node("Flatten", ["either"], ["logits"], "flat"),
    ]
    model = graph(nodes, {"w": normal(3, 1, 6, 6), "shift": np.float32(2), "yes": np.array(True)})
    for changed in (fold_batch_norms(model), quantize(model, {"image": (-4.0, 4.0), "map": (-9.0, 9.0)}, CPU)[0]):
        np.testing.assert_allclose(run(changed), run(model), atol=0.3)


def test_a_norm_in_training_mode_is_not_folded():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["map"], "conv", kernel_shape=[6, 6]),
        helper.make_node(
            "BatchNormalization", ["map", *"sbmv"], ["normed", "mean", "variance"], "norm", training_mode=1
        ),
        helper.make_node("Flatten", ["normed"], ["logits"], "flat"),
    ]
    norm = {name: np.ones(3, np.float32) for name in "sbmv"}
    model = graph(nodes, {"w": normal(3, 1, 6, 6), **norm})
    del model.graph.node[1].output[1:]
    assert [node.op_type for node in fold_batch_norms(model).graph.node] == ["Conv", "BatchNormalization", "Flatten"]


def test_the_multiply_adds_of_a_product_with_a_vector():
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], "flat"),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], "dot"),
    ]
    assert multiply_adds(graph(nodes, {"w": normal(36)}, ["N"])) == {"dot": 36}


def test_a_node_whose_first_output_nobody_reads_has_its_next_one():
    nodes = [
        helper.make_node("Reshape", ["image", "rows"], ["steps"], "steps"),
        helper.make_node("GRU", ["steps", "w", "r"], ["", "last"], "gru", hidden_size=3),
        helper.make_node("Squeeze", ["last", "first"], ["logits"], "squeeze"),
    ]
    weights = {"w": normal(1, 9, 6), "r": normal(1, 9, 3), "rows": np.array([6, -1, 6]), "first": np.array([0])}
    found = literal_outputs(graph(nodes, weights), IMAGES)
    np.testing.assert_array_equal(found["gru"][0], found["squeeze"])


@pytest.mark.parametrize("scopes", ["['', 'conv'", "3", "[]", "__import__('os')"])
def test_a_name_scope_that_is_none_leaves_the_nodes_own_name(scopes):
    model = graph([helper.make_node("Conv", ["image", "w"], ["logits"], "mine")], {"w": normal(3, 1, 6, 6)}, None)
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert clean(model).graph.node[0].name == "mine"


@pytest.mark.parametrize("name", ["model.json", "model.textproto", "model.onnx"])
def test_what_is_no_protobuf_is_refused_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_text("{ no model")
    with pytest.raises(ExportError, match="valid ONNX file"):
        load_source(tmp_path / name)


def test_ranges_of_another_tool_are_given_again_as_a_table():
    assert options(Trial("imported", ("head",), 0.0, 1.0, 0.0)) == ["--calibration", "TABLE", "--exclude", "head"]


def test_onnx_files_compile_where_there_is_no_torch():
    code = "import sys; sys.modules['torch'] = None; import quillrt.compile.pipeline"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_truncated_external_data_and_answers_that_are_no_logits_are_one_line(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], "flat"),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], "head"),
    ]
    model = graph(nodes, {"w": normal(36, 3)})
    onnx.save(model, tmp_path / "far.onnx", save_as_external_data=True, location="far.bin", size_threshold=0)
    (tmp_path / "far.bin").write_bytes((tmp_path / "far.bin").read_bytes()[:100])
    with pytest.raises(ExportError, match=r"valid ONNX file, but .*far\.onnx"):
        load_source(tmp_path / "far.onnx")

    model = graph(nodes, {"w": normal(36, 3)})  # saving put the weights of the other elsewhere
    model.graph.node[1].output[0] = "sums"
    model.graph.node.append(helper.make_node("Cast", ["sums"], ["logits"], "cast", to=TensorProto.INT64))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, tmp_path / "whole.onnx")
    with pytest.raises(ExportError, match=r"gives float32 logits .* gives int64 \(N, 3\); export it up to the logits"):
        load_source(tmp_path / "whole.onnx")
