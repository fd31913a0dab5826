"""First convolutions that onnxruntime computes faster in FP32, and what they do to graphs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from quillrt.compile.answers import Answers
from quillrt.compile.config import CompileConfig
from quillrt.compile.first_convolution import small_first_convolutions
from quillrt.compile.graphs import typed_graphs
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.quantize import CPU, ONNXRUNTIME, TENSORRT, quantize
from quillrt.compile.ranges import Images, calibrate_source
from quillrt.compile.search import Judge, search
from quillrt.compile.sensitivity import analyse
from quillrt.compile.source import Source, load_source
from quillrt.runtime.backends import ONNX_ON_CPU, why_unavailable
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


@pytest.mark.parametrize(
    ("channels", "kernel", "count"),
    [(1, 3, 9), (1, 7, 49), (3, 3, 27), (2, 5, 50), (1, 8, None), (3, 5, None), (4, 3, None), (3, 1, None)],
)
def test_few_multiply_adds_over_few_channels(channels, kernel, count) -> None:
    model = network(channels, kernel, second=64)
    assert small_first_convolutions(model) == ({} if count is None else {"conv1": count})


def test_the_second_convolution_is_none_however_small() -> None:
    model = network(1, 3, second=512)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    weights["w2"].CopyFrom(from_array(np.zeros((512, 1, 3, 3), np.float32), "w2"))
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("group", 16))
    assert small_first_convolutions(model).keys() == {"conv1"}


# 16 channels by 9 multiply-adds against ``second`` by 16 x 9: the share of the first is 1 / (1 + second).
@pytest.mark.parametrize(("second", "found"), [(8, {}), (9, {"conv1": 9}), (10, {"conv1": 9})])
def test_an_int8_graph_keeps_nine_tenths(second, found) -> None:
    assert small_first_convolutions(network(1, 3, second)) == found


def test_none_where_the_size_of_the_image_is_not_known() -> None:
    model = network(1, 3)
    model.graph.input[0].CopyFrom(make_tensor_value_info("image", 1, None))
    assert small_first_convolutions(model) == {}


def test_it_stays_in_fp32_for_onnxruntime_and_says_why(tmp_path) -> None:
    model = network(1, 3)
    typed, decisions = quantize(model, RANGES, ONNXRUNTIME)
    assert [(d.name, d.quantized) for d in decisions] == [("conv1", False), ("conv2", True)]
    assert decisions[0].reason == "9 multiply-adds per output value are too few to be faster in INT8"
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


@pytest.mark.parametrize(("groups", "found"), [(3, {"conv1": 9}), (4, {})])
def test_groups_count_by_the_channels_of_the_image(groups, found) -> None:
    model = network(groups, 3, second=64)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, shape in (("w1", (12, 1, 3, 3)), ("w2", (64, 12, 3, 3))):
        weights[name].CopyFrom(from_array(np.zeros(shape, np.float32), name))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("group", groups))
    assert small_first_convolutions(model) == found


@pytest.mark.parametrize("recipe", [CPU, TENSORRT])
def test_all_others_take_it_in_int8(recipe) -> None:
    _, decisions = quantize(network(1, 3), RANGES, recipe)
    assert all(decision.quantized for decision in decisions)


@pytest.fixture
def noise() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16)).astype(np.uint8)
    return ImageSet(pixels, np.arange(60) % 10, tuple("abcdefghij"))


def source_of(model: onnx.ModelProto, folder: Path) -> Source:
    onnx.save(model, folder / "two.onnx")
    return load_source(folder / "two.onnx", tuple("abcdefghij"))


@pytest.mark.parametrize("target", ONNX_ON_CPU)
@pytest.mark.parametrize(
    ("model", "excluded", "files"),
    [
        (network(1, 3, 10), (), {"model.int8.cpu.onnx": {"onnxruntime-cpu"}, "model.int8.openvino.onnx": {"openvino"}}),
        (network(1, 3, 10), ("conv1",), {"model.int8.cpu.onnx": {*ONNX_ON_CPU}}),
        (network(3, 5, 10), (), {"model.int8.cpu.onnx": {*ONNX_ON_CPU}}),
    ],
)
def test_openvino_has_a_graph_of_its_own_where_they_differ(model, excluded, files, target, noise, tmp_path) -> None:
    if reason := why_unavailable(target):
        pytest.skip(reason)
    config = CompileConfig((Precision.INT8,), (target,), samples=30, excluded=excluded)
    bundle = compile_bundle(source_of(model, tmp_path), Images("noise", noise, noise), config, tmp_path / "a").bundle
    made = {e.path: e for e in bundle.entries if e.precision is Precision.INT8 and {*e.backends} & {*ONNX_ON_CPU}}
    assert {path: {*entry.backends} for path, entry in made.items()} == files
    for entry in made.values():
        for backend, kernels in entry.built_for["kernels"].items():
            in_fp32 = bool(excluded) or (len(files) == 2 and backend == "onnxruntime-cpu")
            assert set(kernels["macs"]) == ({"fp32", "int8"} if in_fp32 else {"int8"})


@pytest.mark.parametrize("targets", [("onnxruntime-cpu", "tensorrt"), ("tensorrt", "onnxruntime-cpu")])
def test_the_gate_takes_it_out_of_the_graphs_that_have_it_in_int8(targets, noise, tmp_path) -> None:
    """A range of the image far too wide makes its INT8 useless: onnxruntime's graph has no part in that."""
    source = source_of(network(1, 3, 10), tmp_path)
    reference = Answers(source.graph, source.spec, noise).reference
    judged = replace(noise, labels=reference.argmax(axis=1).astype(np.int64))
    images = Images("noise", noise, judged)
    table = calibrate_source(source, images, CompileConfig(samples=30))
    wide = replace(table, ranges={**table.ranges, "image": (-500.0, 500.0)})
    answers = Answers(source.graph, source.spec, judged)
    assert Judge(source, ["onnxruntime-cpu"], answers).trial(wide).drop > 20  # by OpenVINO's graph
    found, _ = search(source, targets, [lambda: wide], (), answers, max_drop=10)
    assert found.chosen.excluded == ("conv1",)


def test_it_is_in_int8_where_nothing_else_is(noise, tmp_path) -> None:
    _, decisions = quantize(network(1, 3), RANGES, ONNXRUNTIME, excluded=("conv2",))
    assert [(d.name, d.quantized) for d in decisions] == [("conv1", True), ("conv2", False)]
    config = CompileConfig((Precision.INT8,), ("onnxruntime-cpu",), samples=30, excluded=("conv2",))
    source = source_of(network(1, 3, 10), tmp_path)
    bundle = compile_bundle(source, Images("noise", noise, noise), config, tmp_path / "a.quill").bundle
    (entry,) = (e for e in bundle.entries if e.path.startswith("model.int8.") and "onnxruntime-cpu" in e.backends)
    assert entry.backends == ONNX_ON_CPU


def test_a_graph_without_anything_to_quantize_keeps_its_own_files(noise, tmp_path) -> None:
    """Its INT8 graphs are the FP32 graph again, and each still stands for what it was asked for."""
    model = network(1, 3, 10)
    for tensor in model.graph.initializer:
        tensor.name += "_"
    model.graph.node.insert(0, make_node("Identity", ["w1_"], ["w1"], "one"))
    model.graph.node.insert(1, make_node("Identity", ["w2_"], ["w2"], "two"))
    source = replace(source_of(network(1, 3, 10), tmp_path), graph=model)
    images = Images("noise", noise, noise)
    table = calibrate_source(source, images, CompileConfig(samples=30))
    files, decisions = typed_graphs(source, (Precision.FP32, Precision.INT8), ("onnxruntime-cpu",), table)
    assert not any(decision.quantized for each in decisions.values() for decision in each)
    assert [(entry.path, entry.precision) for entry, _ in files] == [
        ("model.fp32.onnx", Precision.FP32),
        ("model.int8.tensorrt.onnx", Precision.INT8),
        ("model.int8.cpu.onnx", Precision.INT8),
    ]
    assert files[-1][0].backends == ONNX_ON_CPU


def test_the_sensitivity_leaves_it_out_and_says_so(noise, tmp_path) -> None:
    source = source_of(network(1, 3, 10), tmp_path)
    table = calibrate_source(source, Images("noise", noise, noise), CompileConfig(samples=30))
    found = analyse(source, table, ONNXRUNTIME, Answers(source.graph, source.spec, noise))
    assert [each.node for each in found.nodes] == ["conv2"]
    assert [(each.name, each.reason[:16]) for each in found.others] == [("conv1", "9 multiply-adds ")]
