"""Quantized graphs against arithmetic done by hand and by onnx's reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.names import clean
from quillrt.compile.quantize import (
    CPU,
    TENSORRT,
    TENSORRT_FP8,
    activation_scale,
    quantize,
    quantize_weight,
)
from quillrt.runtime.errors import CalibrationError, ConfigError, ExportError

RANGES = {"image": (-1.0, 1.0), "Reshape": (0.0, 6.0)}


def run(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": batch})[0]


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (16, 1, 8, 8)).astype(np.float32)


def test_unsigned_scale_by_hand() -> None:
    assert activation_scale(-1.0, 4.1, "uint8") == (pytest.approx(5.1 / 255), 50)


def test_signed_scale_by_hand() -> None:
    assert activation_scale(-2.54, 1.0, "int8") == (pytest.approx(0.02), 0)


def test_a_range_above_zero_is_widened_to_hold_zero() -> None:
    assert activation_scale(1.0, 2.55, "uint8") == (pytest.approx(0.01), 0)


def test_fp8_scale_by_hand() -> None:
    assert activation_scale(-4.48, 1.0, "float8_e4m3fn") == (pytest.approx(0.01), 0)


@pytest.mark.parametrize("kind", ["uint8", "int8", "float8_e4m3fn"])
def test_an_empty_range_still_has_a_scale(kind: str) -> None:
    assert activation_scale(0.0, 0.0, kind) == (1.0, 0)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.booleans())
def test_every_value_of_the_range_comes_back_within_one_step(a: float, b: float, unsigned: bool) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = activation_scale(low, high, "uint8" if unsigned else "int8")
    lowest, highest = (0, 255) if unsigned else (-128, 127)
    for value in (low, high, 0.0):
        step = np.clip(round(value / scale) + zero, lowest, highest)
        assert abs((step - zero) * scale - value) <= scale * 1.001


def test_weights_by_hand() -> None:
    weight = np.array([[1.27, -0.5], [0.0, 0.0], [-2.54, 2.0]], np.float32)
    steps, scale = quantize_weight(weight, axis=0)
    np.testing.assert_allclose(scale, [0.01, 1.0, 0.02], rtol=1e-6)
    np.testing.assert_array_equal(steps, [[127, -50], [0, 0], [-127, 100]])


def test_weights_per_column() -> None:
    weight = np.array([[1.27, -0.254], [0.5, 0.1]], np.float32)
    steps, scale = quantize_weight(weight, axis=1)
    np.testing.assert_allclose(scale, [0.01, 0.002], rtol=1e-6)
    np.testing.assert_array_equal(steps, [[127, -127], [50, 50]])


@pytest.mark.parametrize("recipe", [CPU, TENSORRT], ids=["onnxruntime-cpu", "tensorrt"])
def test_the_typed_graph_is_valid_and_near_the_original(classifier, batch, recipe) -> None:
    original = clean(classifier)
    typed, decisions = quantize(original, RANGES, recipe)
    onnx.checker.check_model(typed, full_check=True)
    assert [(d.name, d.quantized) for d in decisions] == [("Conv", True), ("Gemm", True)]
    expected = run(original, batch)
    # onnx's own evaluator computes each QuantizeLinear and DequantizeLinear literally, without fusing anything.
    literal = ReferenceEvaluator(typed).run(None, {"image": batch})[0]
    spread = np.abs(expected).max()
    assert np.abs(literal - expected).max() < 0.03 * spread
    assert np.abs(literal - expected).max() > 0  # it did quantize
    assert np.abs(run(typed, batch) - literal).max() < 0.01 * spread


def test_the_input_is_left_alone(classifier) -> None:
    original = clean(classifier)
    before = original.SerializeToString(deterministic=True)
    quantize(original, RANGES, CPU)
    assert original.SerializeToString(deterministic=True) == before


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_what_onnxruntime_wants(classifier) -> None:
    typed, _ = quantize(clean(classifier), RANGES, CPU)
    values = constants(typed)
    assert values["image.zero_point"].dtype == np.uint8
    assert values["image.zero_point"] == round(1 / (2 / 255))
    bias_scale = values["image.scale"] * values["Conv.weight.scale"]
    restored = values["Conv.bias.quantized"] * bias_scale
    assert values["Conv.bias.quantized"].dtype == np.int32
    original = constants(classifier)["conv.bias"]
    np.testing.assert_allclose(restored, original, atol=float(bias_scale.max()) / 2)


def test_what_tensorrt_wants(classifier) -> None:
    typed, _ = quantize(clean(classifier), RANGES, TENSORRT)
    values = constants(typed)
    assert all(not v.any() for name, v in values.items() if name.endswith("zero_point"))
    assert {v.dtype for name, v in values.items() if name.endswith("zero_point")} == {np.dtype(np.int8)}
    assert values["conv.bias"].dtype == np.float32


def test_onnxruntime_fuses_every_pair_around_convolutions_and_products(classifier, tmp_path) -> None:
    typed, _ = quantize(clean(classifier), RANGES, CPU)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this machine only
    onnxruntime.InferenceSession(typed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert {"QLinearConv", "QGemm"} <= set(operators)
    assert not {"Conv", "Gemm", "Relu"} & set(operators)


def test_a_missing_range_is_an_error(classifier) -> None:
    with pytest.raises(CalibrationError, match="expected a range of Reshape"):
        quantize(clean(classifier), {"image": (0.0, 1.0)}, TENSORRT)


def test_products_without_constant_weights_stay_and_say_why() -> None:
    product = helper.make_node("MatMul", ["image", "image"], ["logits"], "product")
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 8, 8]) for n in ("image", "logits")]
    graph = helper.make_graph([product], "square", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    typed, (decision,) = quantize(model, {}, TENSORRT)
    assert (decision.quantized, decision.reason) == (False, "its second factor is no constant")
    assert [n.op_type for n in typed.graph.node] == ["MatMul"]


def test_a_bias_too_large_for_its_weights_keeps_its_value(classifier, batch) -> None:
    """Channels of near-zero weights are ordinary after weight decay; their bias must not overflow int32."""
    weight = numpy_helper.to_array(classifier.graph.initializer[0]).copy()
    weight[1] = 1e-12
    classifier.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "conv.weight"))
    classifier.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(4, np.float32), "conv.bias"))
    original = clean(classifier)
    typed, _ = quantize(original, RANGES, CPU)
    values = constants(typed)
    restored = values["Conv.bias.quantized"] * values["Conv.bias.scale"].astype(np.float64)
    np.testing.assert_allclose(restored, 1, rtol=0.02)
    assert np.abs(run(typed, batch) - run(original, batch)).max() < 0.05 * np.abs(run(original, batch)).max()


def test_excluded_nodes_stay_as_they_are(classifier) -> None:
    original = clean(classifier)
    typed, decisions = quantize(original, RANGES, TENSORRT, excluded={"Conv"})
    assert [(d.name, d.quantized, d.reason) for d in decisions] == [
        ("Conv", False, "it was excluded"),
        ("Gemm", True, ""),
    ]
    conv = next(node for node in typed.graph.node if node.op_type == "Conv")
    assert list(conv.input) == ["image", "conv.weight", "conv.bias"]


def test_steps_so_large_that_float32_cannot_count_biases_by_them_warn_of_nothing(classifier) -> None:
    typed, _ = quantize(clean(classifier), dict.fromkeys(RANGES, (0.0, 1e33)), CPU)
    scales = [numpy_helper.to_array(t) for t in typed.graph.initializer if t.name.endswith("weight.scale")]
    assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales)


def test_a_node_to_exclude_that_is_none(classifier) -> None:
    with pytest.raises(ConfigError, match="out of Conv, Gemm, found Relu, conv1; quillrt inspect"):
        quantize(clean(classifier), RANGES, TENSORRT, excluded=("conv1", "Relu"))


def test_fp8_weights_by_hand() -> None:
    """E4M3 has 3 bits of mantissa: 448 and 256 are there; 300 lies between 288 and 320, the nearer one is 288."""
    weight = np.array([[448, 256, -300], [4.48, 0, 0.01]], np.float32)
    steps, scale = quantize_weight(weight, axis=0, kind="float8_e4m3fn")
    np.testing.assert_allclose(scale, [1, 0.01])
    np.testing.assert_array_equal(steps.astype(np.float32), [[448, 256, -288], [448, 0, 1]])


def test_an_fp8_graph_answers_nearly_as_fp32_by_onnxs_reference(classifier, batch) -> None:
    original = clean(classifier)
    typed, decisions = quantize(original, RANGES, TENSORRT_FP8)
    onnx.checker.check_model(typed, full_check=True)
    assert all(decision.quantized for decision in decisions)
    (found,) = ReferenceEvaluator(typed).run(None, {"image": batch})
    expected = run(original, batch)
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_fp8_needs_an_opset_that_knows_it(classifier) -> None:
    classifier.opset_import[0].version = 18
    with pytest.raises(ExportError, match="opset 19 or newer for fp8, found opset 18"):
        quantize(clean(classifier), RANGES, TENSORRT_FP8)


@pytest.mark.parametrize(
    ("between", "quantized"),
    [
        (["GlobalAveragePool"], {"image", "r"}),  # nothing reads INT8 behind the ReLU but the mean
        (["Add"], {"image", "r"}),
        (["MaxPool"], {"image", "f"}),  # onnxruntime moves the pair behind it to before it
    ],
)
def test_what_a_convolution_gives_is_quantized_for_cpus_whoever_reads_it(between, quantized) -> None:
    (kind,) = between
    sizes = {"GlobalAveragePool": 4, "Add": 4 * 36, "MaxPool": 4 * 9}
    settings = {"kernel_shape": [2, 2], "strides": [2, 2]} if kind == "MaxPool" else {}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node(kind, ["r", "r"] if kind == "Add" else ["r"], ["m"], "between", **settings),
        helper.make_node("Reshape", ["m", "shape"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v"], ["logits"], "head", transB=1),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "v": rng.normal(size=(3, sizes[kind])).astype(np.float32),
        "shape": np.array([0, -1]),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    ranges = {"image": (-2.0, 2.0), "c": (-9.0, 9.0), "r": (0.0, 9.0), "f": (0.0, 18.0)}
    typed, _ = quantize(model, ranges, CPU)
    onnx.checker.check_model(typed, full_check=True)
    found = {node.input[0] for node in typed.graph.node if node.op_type == "QuantizeLinear"}
    assert found == quantized | {"f"}
    kept, _ = quantize(model, ranges, TENSORRT)
    assert {node.input[0] for node in kept.graph.node if node.op_type == "QuantizeLinear"} == {"image", "f"}
