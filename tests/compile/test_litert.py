"""LiteRT models against ONNX's reference evaluator, and their INT8 against the INT8 graph for CPUs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.calibration.collect import collect
from quillrt.calibration.methods import Method
from quillrt.compile.litert import to_litert
from quillrt.compile.names import clean
from quillrt.compile.quantize import CPU, quantize
from quillrt.runtime.backends import open_session
from quillrt.runtime.errors import BundleError, ExportError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, TensorSpec

pytest.importorskip("ai_edge_litert")
RNG = np.random.default_rng(0)


def node(op: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], f"{output}_{op.lower()}", **attributes)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    fan_in = {name: max(1, int(np.prod(shape[1:]))) for name, shape in shapes.items()}
    return {name: RNG.normal(0, fan_in[name] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}


HEAD = [node("Flatten", "last", "flat"), node("Gemm", "flat head bias", "logits", transB=1)]
INTS = {"axes": np.array([2, 3]), "six": np.array(6, np.float32), "zero": np.array(0, np.float32)}
GRAPHS = {
    "a stride with pads": (
        [node("Conv", "image w b", "a", strides=[2, 2], pads=[1, 1, 1, 1]), node("Relu", "a", "last"), *HEAD],
        weights(w=(6, 3, 3, 3), b=(6,), head=(3, 6 * 16), bias=(3,)),
    ),
    "pads as many as keep the size": (
        [node("Conv", "image w", "a", pads=[1, 2, 1, 2]), node("Clip", "a zero six", "last"), *HEAD],
        weights(w=(4, 3, 3, 5), head=(3, 4 * 64), bias=(3,)),
    ),
    "uneven pads": (
        [node("Conv", "image w", "last", pads=[0, 1, 2, 0]), *HEAD],
        weights(w=(4, 3, 3, 3), head=(3, 4 * 8 * 7), bias=(3,)),
    ),
    "dilation, then one group a channel": (
        [
            node("Conv", "image w b", "a", dilations=[2, 2]),
            node("Relu", "a", "r"),
            node("Conv", "r v c", "last", group=4, pads=[1, 1, 1, 1]),
            *HEAD,
        ],
        weights(w=(4, 3, 3, 3), b=(4,), v=(4, 1, 3, 3), c=(4,), head=(3, 4 * 16), bias=(3,)),
    ),
    "poolings": (
        [
            node("Conv", "image w b", "a", pads=[1, 1, 1, 1]),
            node("MaxPool", "a", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("AveragePool", "m", "last", kernel_shape=[2, 2], strides=[2, 2]),
            *HEAD,
        ],
        weights(w=(4, 3, 3, 3), b=(4,), head=(3, 16), bias=(3,)),
    ),
    "a sum of two branches": (
        [
            node("Conv", "image w b", "a"),
            node("Relu", "a", "r"),
            node("Conv", "r v", "c", pads=[1, 1, 1, 1]),
            node("Add", "c r", "s"),
            node("Relu", "s", "t"),
            node("GlobalAveragePool", "t", "last"),
            *HEAD,
        ],
        weights(w=(8, 3, 3, 3), b=(8,), v=(8, 8, 3, 3), head=(3, 8), bias=(3,)),
    ),
    "branches side by side, a mean without its dimensions, a product without a bias": (
        [
            node("Conv", "image w", "a"),
            node("Conv", "image v", "c", pads=[0, 0, 0, 0]),
            node("Concat", "a c", "s", axis=1),
            node("Relu", "s", "r"),
            node("ReduceMean", "r axes", "m", keepdims=0),
            node("Identity", "m", "i"),
            node("MatMul", "i head", "logits"),
        ],
        weights(w=(4, 3, 3, 3), v=(5, 3, 3, 3)) | {"head": RNG.normal(size=(9, 3)).astype(np.float32)},
    ),
    "products alone": (
        [
            node("Flatten", "image", "f"),
            node("Gemm", "f w b", "a", transB=1),
            node("Relu", "a", "r"),
            node("Gemm", "r v", "logits"),
        ],
        weights(w=(16, 192), b=(16,)) | {"v": RNG.normal(size=(16, 3)).astype(np.float32)},
    ),
}


def built(nodes, constants, channels: int = 3) -> onnx.ModelProto:
    used = {name for each in nodes for name in each.input}
    everything = {**INTS, **constants}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in everything.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


SPEC = ModelSpec(
    (TensorSpec("image", "float32", (None, 3, 8, 8)),),
    (TensorSpec("logits", "float32", (None, 3)),),
    ("a", "b", "c"),
    Preprocessing(height=8, width=8, mean=0.5, std=0.25),
)


def answers(model: bytes, batch: np.ndarray, backend: str = "litert") -> np.ndarray:
    with open_session(backend, model, SPEC) as session:
        return session.run(batch)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("count", [1, 5])
def test_fp32_is_the_reference(name, count) -> None:
    model = built(*GRAPHS[name])
    batch = RNG.normal(size=(count, 3, 8, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"image": batch})
    found, decisions = to_litert(model)
    np.testing.assert_allclose(answers(found, batch), expected, rtol=1e-4, atol=1e-5)
    assert decisions == ()


@pytest.fixture
def samples() -> ImageSet:
    return ImageSet(RNG.integers(0, 256, (200, 8, 8), np.uint8), np.arange(200) % 3, ("a", "b", "c"))


@pytest.mark.parametrize("name", GRAPHS)
def test_int8_is_as_close_as_the_graph_for_cpus(name, samples) -> None:
    model = clean(built(*GRAPHS[name]))
    ranges = {key: Method().range_of(counts) for key, counts in collect(model, SPEC, samples).items()}
    batch = np.repeat(samples.images[:100, None].astype(np.float32) / 255, 3, axis=1) * 4 - 2
    exact = answers(model.SerializeToString(), batch, "onnxruntime-cpu")
    typed, _ = quantize(model, ranges, CPU)
    theirs = np.abs(answers(typed.SerializeToString(), batch, "onnxruntime-cpu") - exact).mean()
    found, decisions = to_litert(model, ranges)
    ours = np.abs(answers(found, batch) - exact).mean()
    assert 0 < ours < 2 * theirs
    assert ours < 0.02 * np.abs(exact).mean() + 0.02 * exact.std()
    *before, last = decisions
    assert all(each.quantized for each in before)
    assert not last.quantized
    assert "gives the logits" in last.reason


def test_types_are_those_decided(samples) -> None:
    """LiteRT's own list of tensors; the excluded node has its weight in FP32."""
    from ai_edge_litert.interpreter import Interpreter

    model = clean(built(*GRAPHS["a sum of two branches"]))
    ranges = {key: Method().range_of(counts) for key, counts in collect(model, SPEC, samples).items()}
    for excluded in ((), ("c_conv",)):
        found, decisions = to_litert(model, ranges, excluded)
        details = {each["name"]: each for each in Interpreter(model_content=found).get_tensor_details()}
        kinds = {decision.name: np.int8 if decision.quantized else np.float32 for decision in decisions}
        assert {name: details[f"{name}.weight"]["dtype"] for name in kinds} == kinds
        assert kinds["c_conv"] == (np.float32 if excluded else np.int8)
        assert len(details["a_conv.weight"]["quantization_parameters"]["scales"]) == 8
        assert details["a_conv.bias"]["dtype"] == np.int32


def test_the_same_graph_gives_the_same_bytes() -> None:
    model = built(*GRAPHS["poolings"])
    assert to_litert(model) == to_litert(model)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Gelu", "image", "last"), *HEAD], "expected operators out of .*, found Gelu at node last_gelu; leave"),
        ([node("Conv", "image w", "last", group=2), *HEAD], "one group, or one for each .* at node last_conv"),
        (
            [node("AveragePool", "image", "last", kernel_shape=[3, 3], pads=[1] * 4), *HEAD],
            "no padding .* last_average",
        ),
        ([node("Add", "image image", "a"), node("Clip", "a zero", "last"), *HEAD], "limits of 0 and 6 .* last_clip"),
        ([node("Flatten", "image", "f"), node("Relu", "f", "logits")], "Gemm or MatMul behind it .* f_flatten"),
        ([node("MatMul", "image image", "last"), *HEAD], "a constant FP32 weight .* last_matmul"),
    ],
)
def test_what_is_not_known_is_named(nodes, message) -> None:
    constants = weights(w=(4, 1, 3, 3), head=(3, 192), bias=(3,))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in {**INTS, **constants}.items()],
    )
    with pytest.raises(ExportError, match=message):
        to_litert(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def test_a_damaged_file_is_refused_or_answers() -> None:
    """Its own check sees what does not hang together, not every changed weight: bundles have a sha256 for that."""
    whole, _ = to_litert(built(*GRAPHS["products alone"]))
    batch = np.zeros((1, 3, 8, 8), np.float32)
    for broken in (b"", whole[:100], whole[:4] + b"XXXX" + whole[8:]):
        with pytest.raises(BundleError, match="litert cannot load the model"):
            answers(broken, batch)
