"""torch's graph against torch."""

from __future__ import annotations

import getpass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from quillrt.compile.export import eager_logits, export_checkpoint
from quillrt.runtime.backends import open_session
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint
from quillrt.train.models import build_model


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    spec = character_spec(tuple("0123456789"), Preprocessing(mean=0.13, std=0.31))
    return Checkpoint.of("cnn", spec, build_model("cnn", 10).state_dict(), {})


@pytest.fixture(scope="module")
def graph(checkpoint) -> onnx.ModelProto:
    return export_checkpoint(checkpoint)


def test_nodes_are_named_by_their_modules(graph) -> None:
    names = [node.name for node in graph.graph.node]
    assert {"conv1", "conv2", "pool", "fc1", "fc2"} <= set(names)
    assert names.index("conv1") < names.index("conv2") < names.index("fc1") < names.index("fc2")
    assert not any("dropout" in name for name in names)


def test_nothing_tells_of_the_machine(graph) -> None:
    data = graph.SerializeToString()
    assert not graph.metadata_props
    assert not any(node.metadata_props for node in graph.graph.node)
    for trace in (b"stack_trace", b".py", str(Path.home()).encode() + b"/", f"/{getpass.getuser()}/".encode()):
        assert trace not in data


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_graph_answers_as_eager_does(checkpoint, graph, batch) -> None:
    images = np.random.default_rng(batch).normal(size=(batch, 1, 28, 28)).astype(np.float32)
    expected = eager_logits(checkpoint, images)
    with open_session("onnxruntime-cpu", graph.SerializeToString(), checkpoint.spec) as session:
        np.testing.assert_allclose(session.run(images), expected, atol=1e-5)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint, graph) -> None:
    again = export_checkpoint(checkpoint)
    assert again.SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


def test_an_interrupt_is_no_fault_of_the_network(checkpoint, monkeypatch) -> None:
    def interrupted(*given, **options):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise torch.onnx.errors.OnnxExporterError("cannot export") from error

    monkeypatch.setattr(torch.onnx, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(checkpoint)
