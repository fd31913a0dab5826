"""Every network that comes with quillrt through the whole compiler."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from quillrt.compile.pipeline import PRECISIONS, CompileConfig, Images, compile_bundle
from quillrt.compile.source import Source, load_source
from quillrt.runtime.precision import Precision
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint, save_checkpoint
from quillrt.train.datasets import load_dataset
from quillrt.train.models import MODELS, build_model
from quillrt.train.seeding import seeded


@pytest.fixture(scope="module")
def digits() -> Images:
    splits = load_dataset("digits")
    return Images("digits", splits.train.take(np.arange(64)), splits.validation.take(np.arange(64)))


@pytest.fixture(scope="module", params=MODELS)
def source(request, tmp_path_factory) -> Source:
    """An untrained network whose logits are far enough apart that rounding seldom changes the answer."""
    splits = load_dataset("digits")
    with seeded(0):
        module = build_model(request.param, 10)
        for parameter in list(module.parameters())[-2:]:
            torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("source") / f"{request.param}.safetensors"
    spec = character_spec(splits.classes, splits.preprocessing)
    save_checkpoint(path, Checkpoint.of(request.param, spec, module.state_dict(), {}))
    return load_source(path)


def test_every_precision_for_onnxruntime(source, digits, tmp_path) -> None:
    """Labels are the FP32 graph's own answers, so the accuracy of a file is its agreement with PyTorch."""
    logits = source.checkpoint.module()(torch.from_numpy(_input(source, digits.validation))).detach().numpy()
    judged = replace(digits.validation, labels=logits.argmax(1).astype(np.int64))
    bundle, verdicts = compile_bundle(
        source, replace(digits, validation=judged), CompileConfig(samples=64), tmp_path / "model.quill"
    )
    run = {v.precision: v for v in verdicts if v.backend == "onnxruntime-cpu"}
    assert set(run) == set(PRECISIONS)
    assert run[Precision.FP32].accuracy == run[Precision.FP16].accuracy == 1
    assert run[Precision.INT8].accuracy > 0.9
    layers = {"cnn": 4, "quillnet": 7, "rnn": 1}  # of a GRU no engine takes INT8: its head alone is quantized
    nodes = json.loads(bundle.files["report.json"])["nodes"]["model.int8.onnxruntime-cpu.onnx"]
    assert [node["quantized"] for node in nodes] == [True] * layers[source.checkpoint.model]


@pytest.mark.tensorrt
def test_every_precision_for_tensorrt_rtx(source, digits, tmp_path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx")
    config = CompileConfig(targets=("tensorrt-rtx",), samples=64)
    bundle, _ = compile_bundle(source, digits, config, tmp_path / "model.quill")
    assert {e.precision for e in bundle.entries if e.kind == "engine"} == set(PRECISIONS)


def test_nodes_bear_names_of_their_modules(source) -> None:
    modules = {name for name, _ in source.checkpoint.module().named_modules()}
    named = [node.name for node in source.graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul", "GRU")]
    assert named
    for name in named:
        assert any(name == module or name.startswith(f"{module}.") for module in modules - {""}), name
    assert not any(node.name.startswith("_") for node in source.graph.graph.node)


def _input(source: Source, images) -> np.ndarray:
    from quillrt.runtime.preprocessing import fit_images, normalize

    return normalize(fit_images(images, source.spec.preprocessing), source.spec.preprocessing)
