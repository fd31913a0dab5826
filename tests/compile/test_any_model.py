"""Networks that are not ours, as torchvision has them: each precision computes, and engines are built in it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision.models as zoo

from quillrt.calibration.table import CalibrationTable
from quillrt.compile.config import CALIBRATED, PRECISIONS, CompileConfig
from quillrt.compile.engines import build_engines
from quillrt.compile.graphs import typed_graphs
from quillrt.compile.litert import to_litert
from quillrt.compile.ranges import Images, calibrate_source
from quillrt.compile.source import Source, load_source
from quillrt.runtime.backends import open_session, why_unavailable
from quillrt.runtime.errors import BuildError, ExportError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import normalize

RTX = "tensorrt-rtx"
SIDE, CLASSES = 32, 10
PIXELS = np.random.default_rng(0).integers(0, 256, (48, SIDE, SIDE), np.uint8)
# Root mean square of the logits' error, as a share of theirs: FP16 has 11 bits, INT8 8, FP8 4.
ERROR = {"fp16": 0.01, "int8.cpu": 0.12, "int8.openvino": 0.12, "int8.tensorrt": 0.15, "fp8": 0.3}


def vision_transformer(num_classes: int) -> torch.nn.Module:
    """ViT-B/16's structure with two small layers; its head begins with zeros, which would give no logits."""
    network = zoo.VisionTransformer(SIDE, 16, 2, 4, 64, 128, num_classes=num_classes)
    torch.nn.init.normal_(network.heads.head.weight)
    return network


NETWORKS = {
    "resnet18": zoo.resnet18,
    "mobilenet_v3_small": zoo.mobilenet_v3_small,
    "efficientnet_b0": zoo.efficientnet_b0,
    "squeezenet1_1": zoo.squeezenet1_1,
    "vit_b_16, two layers": vision_transformer,
}
# What engines are built in less than 90 % of, on request: their convolutions of 3 channels have no FP8 kernel.
NOT_IN_FP8 = {"vit_b_16, two layers"}


@dataclass(frozen=True)
class Case:
    name: str
    source: Source
    table: CalibrationTable


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, tmp_path_factory) -> Case:
    path = tmp_path_factory.mktemp("any") / "model.onnx"
    torch.manual_seed(0)
    network = NETWORKS[request.param](num_classes=CLASSES).train()
    with torch.no_grad():
        for _ in range(4):  # batch norms see something
            network(torch.randn(16, 3, SIDE, SIDE))
    export(network.eval(), path, 20)
    source = load_source(path)
    images = ImageSet(PIXELS, np.arange(len(PIXELS)) % CLASSES, source.spec.labels)
    return Case(request.param, source, calibrate_source(source, Images("noise", images, images), CompileConfig()))


def export(network: torch.nn.Module, path: Path, opset: int, batch: int | None = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(batch or 2, 3, SIDE, SIDE),),
            str(path),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=None if batch else ({0: torch.export.Dim("batch")},),
            external_data=True,
            verbose=False,
        )


def batch_of(source: Source) -> np.ndarray:
    return normalize(PIXELS[:16], source.spec.preprocessing, 3)


def literally(graph: bytes, batch: np.ndarray) -> np.ndarray:
    """Without optimizations that are for onnxruntime's own INT8, and wrong for FP8: 1.32 drops a Relu before it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": batch})[0]


def test_every_precision_computes(case) -> None:
    precisions = (Precision.FP16, Precision.INT8, Precision.FP8)
    files, _ = typed_graphs(case.source, precisions, ("onnxruntime-cpu",), case.table)
    batch = batch_of(case.source)
    (_, reference), *others = files
    expected = literally(reference, batch)
    for entry, data in others:
        kind = entry.path.removeprefix("model.").removesuffix(".onnx")
        error = np.sqrt(np.square(literally(data, batch) - expected).mean() / np.square(expected).mean())
        assert 0 < error < ERROR[kind], (kind, error)
        for backend in entry.backends:
            if why_unavailable(backend) is None:
                with open_session(backend, data, case.source.spec) as session:
                    found = session.run(batch)
                error = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
                assert error < ERROR[kind], (kind, backend, error)


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", PRECISIONS)
def test_engines_are_built_in_their_precision(case, precision) -> None:
    pytest.importorskip("tensorrt_rtx")
    table = case.table if precision in CALIBRATED else None
    files, _ = typed_graphs(case.source, (precision,), (RTX,), table)
    if precision is Precision.FP8 and case.name in NOT_IN_FP8:
        with pytest.raises(
            BuildError, match=r"to build 90% of the multiply-adds of model.fp8.onnx in fp8, found \d\d%"
        ):
            build_engines(files, [precision], [RTX])
        return
    ((entry, data),), layers = build_engines(files, [precision], [RTX])
    assert len(data) > 100_000
    macs = entry.built_for["macs"]
    kinds = ("int8", "fp16") if precision is Precision.MIXED else (precision.value,)
    assert sum(macs.get(kind, 0) for kind in kinds) >= 0.9 * sum(macs.values())
    assert macs[kinds[0]] > 0
    assert layers[entry.path]


def test_litert_takes_it_or_names_the_node(case) -> None:
    pytest.importorskip("ai_edge_litert")
    refused = {
        "mobilenet_v3_small": "found HardSwish at node features.0.2",
        "efficientnet_b0": "found Sigmoid at node features.0.2",
        "squeezenet1_1": r"no ceil_mode, dilations or indices for litert at node features.2 \(MaxPool\)",
        "vit_b_16, two layers": "at node",
    }
    if message := refused.get(case.name):
        with pytest.raises(ExportError, match=message):
            to_litert(case.source.graph)
        return
    batch = batch_of(case.source)
    expected = literally(case.source.graph.SerializeToString(), batch)
    for ranges, bound in ((None, 1e-5), (case.table.ranges, ERROR["int8.cpu"])):
        with open_session("litert", to_litert(case.source.graph, ranges)[0], case.source.spec) as session:
            found = session.run(batch)
        assert np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()) < bound


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(3, 8, 3, 2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(8, CLASSES)).eval()


@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("opset", [18, 20, onnx.defs.onnx_opset_version() - 1])
def test_exported_with_any_batch(small, opset, batch, tmp_path) -> None:
    path = tmp_path / "model.onnx"
    export(small, path, opset, batch)
    source = load_source(path)
    pixels = batch_of(source)
    with torch.no_grad():
        expected = small(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(literally(source.graph.SerializeToString(), pixels), expected, rtol=1e-4, atol=1e-5)
    images = ImageSet(PIXELS, np.arange(len(PIXELS)) % CLASSES, source.spec.labels)
    table = calibrate_source(source, Images("noise", images, images), CompileConfig())
    files, decisions = typed_graphs(source, (Precision.FP16, Precision.INT8), ("onnxruntime-cpu",), table)
    for entry, data in files:
        assert np.abs(literally(data, pixels) - expected).max() < 0.1 * np.abs(expected).max(), entry.path
    assert all(node.quantized for nodes in decisions.values() for node in nodes)
