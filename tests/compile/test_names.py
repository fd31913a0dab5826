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
        ["", "block", "block.conv", "conv2d"],
        ["", "block", "block.conv", "relu"],
        ["", "pool", "max_pool2d"],
        ["", "flatten"],
        ["", "head", "linear"],
    ]
    model = scoped(classifier, scopes)
    _rename_weights(model, {"conv": "block.conv", "fc": "head"})
    graph = clean(model).graph
    assert [n.name for n in graph.node] == ["block.conv", "block.conv.relu", "pool", "flatten", "head"]
    assert [n.output[0] for n in graph.node] == ["block.conv", "block.conv.relu", "pool", "flatten", "logits"]


def test_a_folded_norm_leaves_the_convolution_its_name(classifier) -> None:
    """torch's optimizer gives the convolution the scope of the batch norm that it folds into it."""
    scopes = [["", "norm", "batch_norm"], ["", "relu", "relu"], ["", "pool", "x"], ["", "flat", "x"], ["", "fc", "x"]]
    assert [n.name for n in clean(scoped(classifier, scopes)).graph.node] == ["conv", "relu", "pool", "flat", "fc"]


def _rename_weights(model: onnx.ModelProto, modules: dict[str, str]) -> None:
    for holder in (model.graph.initializer, model.graph.node):
        for each in holder:
            for old, new in modules.items():
                if isinstance(each, onnx.TensorProto):
                    each.name = each.name.replace(f"{old}.", f"{new}.")
                else:
                    each.input[:] = [name.replace(f"{old}.", f"{new}.") for name in each.input]


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
