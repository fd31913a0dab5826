"""Any ONNX classifier as a source, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quillrt.compile.source import Source, load_source
from quillrt.runtime.backends import open_session
from quillrt.runtime.errors import CheckpointError, ExportError
from quillrt.runtime.preprocessing import Preprocessing


def save(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_an_onnx_file_gives_graph_and_spec(classifier, tmp_path) -> None:
    source = load_source(save(classifier, tmp_path), ("x", "y", "z"), Preprocessing(mean=0.1, std=0.3, fit="resize"))
    assert source.spec.labels == ("x", "y", "z")
    assert source.spec.input.shape == (None, 1, 8, 8)
    assert source.spec.preprocessing == Preprocessing(8, 8, 0.1, 0.3, "resize")
    assert source.record["kind"] == "onnx"


def test_labels_default_to_numbers(classifier, tmp_path) -> None:
    assert load_source(save(classifier, tmp_path)).spec.labels == ("0", "1", "2")


def test_a_fixed_batch_is_made_dynamic(classifier, tmp_path) -> None:
    for value in (classifier.graph.input[0], classifier.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    assert load_source(save(classifier, tmp_path)).spec.input.shape[0] is None


def test_a_batch_built_into_the_graph_is_refused(classifier, tmp_path) -> None:
    graph = classifier.graph
    graph.initializer[4].CopyFrom(numpy_helper.from_array(np.array([1, 36]), "shape"))
    with pytest.raises(ExportError, match="any batch size"):
        load_source(save(classifier, tmp_path))


def test_flatten_becomes_the_reshape_it_is(classifier, tmp_path) -> None:
    before = load_source(save(classifier, tmp_path))
    classifier.graph.node[3].CopyFrom(helper.make_node("Flatten", ["c"], ["d"]))
    after = load_source(save(classifier, tmp_path))
    assert "Flatten" not in [node.op_type for node in after.graph.graph.node]
    assert_same_answers(before, after)


def assert_same_answers(first: Source, second: Source) -> None:
    batch = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    answers = []
    for source in (first, second):
        with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
            answers.append(session.run(batch))
    np.testing.assert_array_equal(*answers)


def test_a_final_softmax_is_cut(classifier, tmp_path) -> None:
    logits = load_source(save(classifier, tmp_path))
    classifier.graph.node[-1].output[0] = "raw"
    classifier.graph.node.append(helper.make_node("Softmax", ["raw"], ["logits"]))
    with_softmax = load_source(save(classifier, tmp_path))
    assert "Softmax" not in [node.op_type for node in with_softmax.graph.graph.node]
    assert_same_answers(logits, with_softmax)


def test_the_graph_hash_depends_on_weights_only_through_the_graph(classifier, tmp_path) -> None:
    first = load_source(save(classifier, tmp_path)).sha256
    assert load_source(save(classifier, tmp_path)).sha256 == first
    classifier.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "fc.bias"))
    assert load_source(save(classifier, tmp_path)).sha256 != first


def test_no_output(classifier, tmp_path) -> None:
    del classifier.graph.output[:]
    with pytest.raises(ExportError, match="found an ONNX graph with none"):
        load_source(save(classifier, tmp_path))


def test_two_inputs(classifier, tmp_path) -> None:
    classifier.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["batch", 1]))
    with pytest.raises(ExportError, match="2 inputs"):
        load_source(save(classifier, tmp_path))


def test_wrong_number_of_labels(classifier, tmp_path) -> None:
    with pytest.raises(ExportError, match="2 labels"):
        load_source(save(classifier, tmp_path), ("x", "y"))


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", b"\x08\x0a"], ids=["empty", "text", "truncated"])
def test_no_onnx(content: bytes, tmp_path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ExportError, match="ONNX"):
        load_source(tmp_path / "model.onnx")


def test_no_file(tmp_path) -> None:
    with pytest.raises(ExportError, match="No such file"):
        load_source(tmp_path / "model.onnx")
    with pytest.raises(CheckpointError):
        load_source(tmp_path / "model.safetensors")


def test_a_softmax_behind_an_identity_is_cut_too(classifier, tmp_path) -> None:
    logits = load_source(save(classifier, tmp_path))
    classifier.graph.node[-1].output[0] = "raw"
    classifier.graph.node.append(helper.make_node("Softmax", ["raw"], ["soft"]))
    classifier.graph.node.append(helper.make_node("Identity", ["soft"], ["logits"]))
    assert_same_answers(logits, load_source(save(classifier, tmp_path)))


def test_a_softmax_in_disguise_is_refused(classifier, tmp_path) -> None:
    """exp(x) / sum(exp(x)) written out: the runtime would take the softmax of a softmax."""
    classifier.graph.node[-1].output[0] = "raw"
    axis = numpy_helper.from_array(np.array([1]), "axis")
    classifier.graph.initializer.append(axis)
    classifier.graph.node.append(helper.make_node("Exp", ["raw"], ["exp"]))
    classifier.graph.node.append(helper.make_node("ReduceSum", ["exp", "axis"], ["sum"]))
    classifier.graph.node.append(helper.make_node("Div", ["exp", "sum"], ["logits"]))
    with pytest.raises(ExportError, match="found probabilities"):
        load_source(save(classifier, tmp_path))


def test_weights_of_nan(classifier, tmp_path) -> None:
    classifier.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), "fc.bias"))
    with pytest.raises(ExportError, match="expected finite logits"):
        load_source(save(classifier, tmp_path))


def test_an_output_that_is_no_tensor(classifier, tmp_path) -> None:
    classifier.graph.node[-1].output[0] = "raw"
    classifier.graph.node.append(helper.make_node("SequenceConstruct", ["raw"], ["logits"]))
    sequence = helper.make_tensor_sequence_value_info("logits", TensorProto.FLOAT, None)
    classifier.graph.output[0].CopyFrom(sequence)
    with pytest.raises(ExportError, match="expected tensors"):
        load_source(save(classifier, tmp_path))


def test_a_declared_output_that_the_graph_does_not_give(classifier, tmp_path) -> None:
    classifier.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    with pytest.raises(ExportError, match="expected a valid ONNX graph"):
        load_source(save(classifier, tmp_path))


def test_a_branch_that_reads_a_tensor_outside_it(classifier, tmp_path) -> None:
    before = load_source(save(classifier, tmp_path))
    classifier.graph.node[-1].output[0] = "raw"
    bodies = {}
    for name in ("then_branch", "else_branch"):
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        node = helper.make_node("Identity", ["raw"], [name])
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/somebody/train.py")
        bodies[name] = helper.make_graph([node], name, [], [info])
    classifier.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    classifier.graph.node.append(helper.make_node("If", ["always"], ["logits"], **bodies))
    after = load_source(save(classifier, tmp_path))
    assert_same_answers(before, after)
    assert b"somebody" not in after.graph.SerializeToString()


def test_answers_that_depend_on_the_batch_are_refused(classifier, tmp_path) -> None:
    classifier.graph.node[-1].output[0] = "raw"
    classifier.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    classifier.graph.node.append(helper.make_node("ReduceMean", ["raw", "axis"], ["mean"]))
    classifier.graph.node.append(helper.make_node("Sub", ["raw", "mean"], ["logits"]))
    with pytest.raises(ExportError, match="other images of a batch"):
        load_source(save(classifier, tmp_path))


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("opset", [13, 15, 17, 19, 21, 23])
def test_opsets_and_batches_give_the_same_classifier(classifier, tmp_path, opset, batch) -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(classifier).run(None, {"image": images})
    classifier.opset_import[0].version = opset
    if batch != "batch":
        for value in (*classifier.graph.input, *classifier.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        shape = next(t for t in classifier.graph.initializer if t.name == "shape")
        shape.CopyFrom(numpy_helper.from_array(np.array([batch, 36]), "shape"))
    onnx.save(classifier, tmp_path / "model.onnx", save_as_external_data=opset == 19, size_threshold=0)
    source = load_source(tmp_path / "model.onnx")
    (found,) = ReferenceEvaluator(source.graph).run(None, {"image": images})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_weight_that_a_node_without_inputs_gives(classifier, tmp_path) -> None:
    weight = next(t for t in classifier.graph.initializer if t.name == "conv.weight")
    classifier.graph.node.insert(0, helper.make_node("Constant", [], ["conv.weight"], value=weight))
    classifier.graph.initializer.remove(weight)
    graph = load_source(save(classifier, tmp_path)).graph.graph
    assert [node.op_type for node in graph.node] == ["Conv", "Relu", "MaxPool", "Reshape", "Gemm"]


def test_a_bundle_is_told_from_a_damaged_graph(tmp_path):
    (tmp_path / "model.quill").write_bytes(b"PK")
    with pytest.raises(ExportError, match=r"model\.quill: is a bundle; give what it was compiled from$"):
        load_source(tmp_path / "model.quill")
