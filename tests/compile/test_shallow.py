"""Convolutions of the image that onnxruntime computes quicker in FP32, and what they do to graphs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from quillrt.compile.config import CompileConfig
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.quantize import CPU, ONNXRUNTIME, quantize
from quillrt.compile.ranges import Images
from quillrt.compile.shallow import shallow_convolutions
from quillrt.compile.source import load_source
from quillrt.runtime.backends import ONNX_ON_CPU
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision

RANGES = dict.fromkeys(("image", "first", "second"), (-3.0, 3.0))


def network(channels: int, kernel: int, second: int = 32) -> onnx.ModelProto:
    """Two convolutions of images of 16 x 16 pixels: ``kernel`` wide to 16 channels, then 3 wide to ``second``."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(0, 0.1, (16, channels, kernel, kernel)),
        "w2": random.normal(0, 0.1, (second, 16, 3, 3)),
    }
    nodes = [
        make_node("Conv", ["image", "w1"], ["first"], "conv1", pads=[kernel // 2] * 4),
        make_node("Conv", ["first", "w2"], ["second"], "conv2", pads=[1] * 4),
        make_node("GlobalMaxPool", ["second"], ["pooled"], "pool"),
        make_node("Flatten", ["pooled"], ["logits"], "flatten"),
    ]
    graph = make_graph(
        nodes,
        "two",
        [make_tensor_value_info("image", 1, ["N", channels, 16, 16])],
        [make_tensor_value_info("logits", 1, ["N", second])],
        [from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return make_model(graph, opset_imports=[make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(("channels", "kernel", "products"), [(1, 3, 9), (1, 5, 25), (3, 3, 27), (4, 3, None)])
def test_few_products_a_value(channels, kernel, products) -> None:
    assert shallow_convolutions(network(channels, kernel)) == ({} if products is None else {"conv1": products})


def test_the_second_convolution_is_none_however_few_its_products() -> None:
    model = network(1, 3, second=512)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    weights["w2"].CopyFrom(from_array(np.zeros((512, 1, 3, 3), np.float32), "w2"))
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("group", 16))
    assert shallow_convolutions(model).keys() == {"conv1"}


# 16 channels by 9 products against ``second`` by 16 x 9: the share of the first is 1 / (1 + second).
@pytest.mark.parametrize(("second", "found"), [(8, {}), (9, {"conv1": 9}), (10, {"conv1": 9})])
def test_no_more_than_an_int8_graph_may_leave(second, found) -> None:
    assert shallow_convolutions(network(1, 3, second)) == found


def test_it_stays_in_fp32_for_onnxruntime_and_says_why(tmp_path) -> None:
    model = network(1, 3)
    typed, decisions = quantize(model, RANGES, ONNXRUNTIME)
    assert [(d.name, d.quantized) for d in decisions] == [("conv1", False), ("conv2", True)]
    assert decisions[0].reason == "9 products a value are too few to be quicker in INT8"
    assert "image" not in {name for node in typed.graph.node if node.op_type == "QuantizeLinear" for name in node.input}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = onnxruntime.InferenceSession(typed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert (kinds["Conv"], kinds["QLinearConv"]) == (1, 1)
    image = np.random.default_rng(1).random((2, 1, 16, 16), dtype=np.float32)
    exact = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = exact.run(None, {"image": image})[0]
    assert np.abs(session.run(None, {"image": image})[0] - expected).max() < 0.05 * np.abs(expected).max()


def test_all_others_take_it_in_int8() -> None:
    _, decisions = quantize(network(1, 3), RANGES, CPU)
    assert all(decision.quantized for decision in decisions)


@pytest.mark.parametrize(
    ("channels", "targets", "files"),
    [
        (1, ONNX_ON_CPU, {"model.int8.cpu.onnx": ("onnxruntime-cpu",), "model.int8.openvino.onnx": ("openvino",)}),
        (1, ("onnxruntime-cpu",), {"model.int8.cpu.onnx": ONNX_ON_CPU}),
        (1, ("openvino",), {"model.int8.cpu.onnx": ONNX_ON_CPU}),
        (3, ONNX_ON_CPU, {"model.int8.cpu.onnx": ONNX_ON_CPU}),
    ],
)
def test_openvino_gets_a_graph_of_its_own_where_both_are_targets_and_differ(channels, targets, files, tmp_path) -> None:
    if "openvino" in targets:
        pytest.importorskip("openvino")
    labels = tuple("abcdefghij")
    onnx.save(network(channels, 5 if channels == 3 else 3, len(labels)), tmp_path / "two.onnx")
    source = load_source(tmp_path / "two.onnx", labels)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16)).astype(np.uint8)
    noise = ImageSet(pixels, np.arange(60) % 10, labels, source.spec.preprocessing)
    config = CompileConfig((Precision.INT8,), targets, samples=30)
    bundle = compile_bundle(source, Images("noise", noise, noise), config, tmp_path / "two.quill").bundle
    cpu = {e.path: e for e in bundle.entries if e.precision is Precision.INT8 and set(e.backends) & {*ONNX_ON_CPU}}
    assert {path: entry.backends for path, entry in cpu.items()} == files
    left = {"onnxruntime-cpu": "fp32", "openvino": "int8"}
    for entry in cpu.values():
        for backend, kernels in entry.built_for["kernels"].items():
            first = left[targets[0] if len(files) == 1 else backend] if channels == 1 else "int8"
            assert set(kernels["macs"]) == {first, "int8"}
