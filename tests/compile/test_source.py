"""Any ONNX classifier as a source, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

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
