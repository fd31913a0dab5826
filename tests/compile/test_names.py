"""Readable graphs without traces of where they were made."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.names import clean


def scoped(model: onnx.ModelProto, scopes: list[list[str]]) -> onnx.ModelProto:
    for node, scope in zip(model.graph.node, scopes, strict=True):
        node.name = f"node_{node.op_type}"
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(scope))
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/somebody/train.py", line 1')
    return model


def test_nodes_and_tensors_bear_module_names(classifier) -> None:
    scopes = [
        ["", "features", "features.0", "conv2d"],
        ["", "features", "features.0", "relu"],
        ["", "pool", "max_pool2d"],
    ]
    scopes += [["", "flatten"], ["", "fc", "linear"]]
    graph = clean(scoped(classifier, scopes)).graph
    assert [n.name for n in graph.node] == ["features.0", "features.0.relu", "pool", "flatten", "fc"]
    assert [n.output[0] for n in graph.node] == ["features.0", "features.0.relu", "pool", "flatten", "logits"]


def test_no_trace_of_the_machine_stays(classifier) -> None:
    model = scoped(classifier, [["", "x"]] * 5)
    model.doc_string = "made in /home/somebody"
    model.graph.metadata_props.add(key="where", value="/home/somebody")
    assert b"somebody" not in clean(model).SerializeToString()


def test_equal_scopes_give_different_names(classifier) -> None:
    names = [n.name for n in clean(scoped(classifier, [["", "x", "op"]] * 5)).graph.node]
    assert len(set(names)) == 5


def test_other_exporters_names_are_kept_and_missing_ones_filled(classifier) -> None:
    classifier.graph.node[0].name = "/stem/Conv"
    assert [n.name for n in clean(classifier).graph.node] == ["/stem/Conv", "Relu", "MaxPool", "Reshape", "Gemm"]


def test_constant_nodes_become_initializers(classifier) -> None:
    bias = classifier.graph.initializer[3]
    node = helper.make_node("Constant", [], ["fc.bias"], value=bias)
    classifier.graph.node.insert(0, node)
    del classifier.graph.initializer[3]
    cleaned = clean(classifier)
    (moved,) = [t for t in cleaned.graph.initializer if t.name == "fc.bias"]
    np.testing.assert_array_equal(numpy_helper.to_array(moved), numpy_helper.to_array(bias))
    assert "Constant" not in [n.op_type for n in cleaned.graph.node]


def test_cleaning_changes_no_answer(classifier) -> None:
    batch = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    before, after = (ReferenceEvaluator(m).run(None, {"image": batch}) for m in (classifier, clean(classifier)))
    np.testing.assert_array_equal(before[0], after[0])
