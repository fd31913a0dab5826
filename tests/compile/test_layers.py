"""Layer by layer: what was changed is named, and what was not is equal."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.export import eager_layers, export_checkpoint
from quillrt.compile.layers import (
    EAGER,
    LayerError,
    compared,
    first_beyond,
    forms,
    literal_outputs,
    outputs_of,
    parity,
    tolerance_of,
)
from quillrt.compile.names import clean
from quillrt.compile.quantize import CPU, TENSORRT, quantize
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint
from quillrt.train.models import build_model
from quillrt.train.seeding import seeded

RANGES = {"image": (-4.0, 4.0), "Conv": (-8.0, 8.0), "Relu": (0.0, 8.0), "Reshape": (0.0, 8.0)}
BATCH = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)


def fresh(model: str) -> Checkpoint:
    """A network whose norms, if any, are far from doing nothing."""
    with seeded(0):
        module = build_model(model, 4, 12, 12).train()
        with torch.no_grad():
            for _ in range(3):
                module(3 * torch.randn(16, 1, 12, 12) + 1)
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    spec = character_spec(tuple("abcd"), Preprocessing(height=12, width=12))
    return Checkpoint.of(model, spec, module.state_dict(), {})


@pytest.mark.parametrize("model", ["cnn", "quillnet"])
def test_the_exported_graph_has_the_layers_of_eager(model) -> None:
    checkpoint = fresh(model)
    batch = np.random.default_rng(1).normal(size=(5, 1, 12, 12)).astype(np.float32)
    eager, graph = eager_layers(checkpoint, batch), literal_outputs(export_checkpoint(checkpoint), batch)
    errors = compared(eager, graph, {})
    assert {error.node for error in errors} == graph.keys()
    assert max(error.error for error in errors) < 1e-5


def test_a_rectifier_in_place_does_not_change_what_came_before() -> None:
    eager = eager_layers(fresh("cnn"), np.random.default_rng(1).normal(size=(2, 1, 12, 12)).astype(np.float32))
    assert eager["conv1"].min() < 0 <= eager["relu1"].min()


def test_outputs_are_those_of_the_reference_evaluator(classifier) -> None:
    graph = clean(classifier)
    found = literal_outputs(graph, BATCH)
    assert list(found) == ["Conv", "Relu", "MaxPool", "Reshape", "Gemm"]
    graph.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in graph.graph.node[:-1])
    expected = ReferenceEvaluator(graph).run(None, {"image": BATCH})
    for name, values in zip(["Gemm", "Conv", "Relu", "MaxPool", "Reshape"], expected, strict=True):
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)


def test_the_changed_layer_is_named_first(classifier) -> None:
    graph = clean(classifier)
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    weight = next(t for t in changed.graph.initializer if t.name == graph.graph.node[4].input[1])
    weight.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(weight), weight.name))
    errors = compared(literal_outputs(graph, BATCH), literal_outputs(changed, BATCH), {"Gemm": "Gemm"})
    first = first_beyond(errors, 1e-4)
    assert first is not None
    assert (first.node, first.op_type) == ("Gemm", "Gemm")
    assert all(error.error == error.largest == 0 for error in errors if error.node != "Gemm")


@pytest.mark.parametrize("recipe", [CPU, TENSORRT])
def test_a_silly_range_is_found_where_it_is(classifier, recipe) -> None:
    graph = clean(classifier)
    exact = literal_outputs(graph, BATCH)
    good, _ = quantize(graph, RANGES, recipe)
    assert first_beyond(compared(exact, literal_outputs(good, BATCH), {}), tolerance_of("int8")) is None
    silly, _ = quantize(graph, {**RANGES, "Reshape": (0.0, 0.01)}, recipe)
    first = first_beyond(compared(exact, literal_outputs(silly, BATCH), {}), tolerance_of("int8"))
    assert first is not None
    assert first.node == "Gemm"  # the values before it are quantized on its input


def test_errors_by_hand() -> None:
    reference = {"a": np.array([3.0, 4.0]), "b": np.zeros(2), "c": np.ones(3), "d": np.ones(2)}
    other = {"a": np.array([3.0, 3.0]), "b": np.array([0.0, 1.0]), "c": np.ones(2)}
    assert compared(reference, other, {"a": "Conv"}) == (
        LayerError("a", "Conv", pytest.approx(np.sqrt(0.5 / 12.5)), 1.0),
        LayerError("b", "", pytest.approx(np.sqrt(0.5)), 1.0),
    )
    nothing = LayerError("x", "", float("nan"), 0.0)
    assert first_beyond((nothing,), 1.0) == nothing
    assert first_beyond((LayerError("x", "", 1.0, 0.0),), 1.0) is None


def test_forms_of_a_bundle_and_what_is_none(quadrants_bundle) -> None:
    graphs = forms(Bundle.open(quadrants_bundle))
    assert list(graphs) == ["fp32"]
    with pytest.raises(ConfigError, match=r"out of fp32, found eager; eager needs --checkpoint"):
        outputs_of(EAGER, graphs, None, BATCH)
    with pytest.raises(ConfigError, match=r"out of fp32, found int9"):
        outputs_of("int9", graphs, None, BATCH)


def test_parity_by_other_means(classifier) -> None:
    from quillrt.compile.bf16 import to_bf16

    graph = clean(classifier)
    typed, _ = quantize(graph, RANGES, TENSORRT)
    graphs = {name: model.SerializeToString() for name, model in (("fp32", graph), ("int8.tensorrt", typed))}
    graphs["bf16"] = to_bf16(graph).SerializeToString()
    fp32, int8, bf16 = parity(graphs, None, BATCH)
    (exact,) = ReferenceEvaluator(graph).run(None, {"image": BATCH})
    (other,) = ReferenceEvaluator(typed).run(None, {"image": BATCH})
    assert "fp32" not in fp32
    assert int8["n"] == 6
    assert int8["fp32"]["max"] == pytest.approx(np.abs(other - exact).max(), rel=1e-3)
    assert int8["fp32"]["mean"] == pytest.approx(np.abs(other - exact).mean(), rel=1e-3)
    assert int8["fp32"]["agreement"] == (other.argmax(1) == exact.argmax(1)).mean()
    assert "bfloat16" in bf16["reason"]
    with pytest.raises(BackendUnavailable, match="onnxruntime cannot run the graph here"):
        outputs_of("bf16", graphs, None, BATCH)
