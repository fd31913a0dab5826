"""Every network that comes with quillrt through the whole compiler."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from quillrt.compile.config import DEFAULT_PRECISIONS, PRECISIONS, CompileConfig
from quillrt.compile.engines import buildable
from quillrt.compile.export import eager_logits
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.ranges import Images
from quillrt.compile.source import Source, load_source
from quillrt.compile.verify import Verdict
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing, fit_images, normalize
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint, save_checkpoint
from quillrt.train.datasets import Splits, load_dataset
from quillrt.train.models import MODELS, build_model
from quillrt.train.seeding import seeded


@pytest.fixture(scope="module")
def splits() -> Splits:
    """At 16 x 16 pixels: a GRU is exported row by row."""
    return load_dataset("digits", recipe=Preprocessing(height=16, width=16))


@pytest.fixture(scope="module", params=MODELS)
def source(request, splits, tmp_path_factory) -> Source:
    """An untrained network whose logits are far enough apart that rounding seldom changes the answer."""
    with seeded(0):
        module = build_model(request.param, 10, 16, 16)
        for parameter in list(module.parameters())[-2:]:
            torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("source") / f"{request.param}.safetensors"
    spec = character_spec(splits.classes, splits.preprocessing)
    save_checkpoint(path, Checkpoint.of(request.param, spec, module.state_dict(), {}))
    return load_source(path)


@pytest.fixture(scope="module")
def judged(source, splits) -> ImageSet:
    """Images that PyTorch answers clearly, its answers their labels: accuracy is then agreement with PyTorch.

    Where two logits are as good as equal, FP16 rightly answers one and FP32 the other.
    """
    recipe = source.spec.preprocessing
    some = splits.validation.take(np.arange(64))
    logits = eager_logits(source.checkpoint, normalize(fit_images(some, recipe), recipe))
    second, first = np.sort(logits, axis=1)[:, -2:].T
    clear = np.flatnonzero(first - second > 0.02 * np.abs(logits).max())
    assert len(clear) >= 32
    return replace(some.take(clear), labels=logits.argmax(1)[clear].astype(np.int64))


def precisions_of(source: Source) -> tuple[Precision, ...]:
    """All; but TensorRT takes no recurrent layer in BF16."""
    recurrent = any(node.op_type == "GRU" for node in source.graph.graph.node)
    return tuple(precision for precision in PRECISIONS if not (recurrent and precision is Precision.BF16))


@pytest.fixture(scope="module")
def compiled(source, splits, judged, tmp_path_factory) -> tuple[Bundle, tuple[Verdict, ...]]:
    """A bundle for onnxruntime's CPU provider and for every builder that can work here, and how its files did."""
    images = Images("digits", splits.train.take(np.arange(64)), judged)
    config = CompileConfig(precisions_of(source), ("onnxruntime-cpu", *buildable()), samples=64)
    return compile_bundle(source, images, config, tmp_path_factory.mktemp("compiled") / "model.quill")[:2]


def test_every_precision_for_onnxruntime(source, compiled) -> None:
    bundle, verdicts = compiled
    run = {v.precision: v for v in verdicts if v.backend == "onnxruntime-cpu"}
    assert set(run) == set(DEFAULT_PRECISIONS)
    assert run[Precision.FP32].accuracy == run[Precision.FP16].accuracy == 1
    assert run[Precision.FP16].max_difference > 0
    assert run[Precision.INT8].accuracy > 0.9
    # Of a GRU no engine takes INT8: only its head is quantized.
    layers = [m for m in source.checkpoint.module().modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    nodes = json.loads(bundle.files["report.json"])["nodes"]["model.int8.cpu.onnx"]
    assert len(nodes) == len(layers)
    left = {"cnn": ["conv1"], "quillnet": ["block1.conv"], "rnn": []}[source.checkpoint.model]
    assert [node["name"] for node in nodes if not node["quantized"]] == left


@pytest.mark.tensorrt
def test_every_precision_for_tensorrt(source, compiled) -> None:
    if not buildable():
        pytest.skip("needs a builder that can work here: tensorrt-rtx, or tensorrt and a GPU")
    bundle, _ = compiled
    built = {(e.backends, e.precision) for e in bundle.entries if e.kind == "engine"}
    assert built == {((family,), precision) for family in buildable() for precision in precisions_of(source)}


def test_nodes_bear_names_of_their_modules(source) -> None:
    modules = {name for name, _ in source.checkpoint.module().named_modules()}
    named = [node.name for node in source.graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul", "GRU")]
    assert named
    for name in named:
        assert any(name == module or name.startswith(f"{module}.") for module in modules - {""}), name
    assert not any(node.name.startswith("_") for node in source.graph.graph.node)


def test_a_convolution_keeps_its_modules_name_when_its_norm_is_folded_into_it(source) -> None:
    named = {node.name for node in source.graph.graph.node if node.op_type in ("Conv", "Gemm")}
    module = source.checkpoint.module()
    products = (torch.nn.Conv2d, torch.nn.Linear)
    expected = {name for name, each in module.named_modules() if isinstance(each, products)}
    assert expected <= named
