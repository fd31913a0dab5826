"""What onnxruntime and OpenVINO make of graphs whose multiply-adds are counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from quillrt.compile.attest import attest_graphs, attributed, with_nodes
from quillrt.compile.config import CompileConfig
from quillrt.compile.names import clean
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.quantize import CPU, ONNXRUNTIME, quantize
from quillrt.compile.ranges import Images
from quillrt.compile.source import load_source
from quillrt.runtime.backends import ONNX_ON_CPU, why_unavailable
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.device import processor
from quillrt.runtime.errors import BuildError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.trt_layers import LayerInfo

CONV, GEMM = 6 * 6 * 4 * 9, 36 * 3  # multiply-adds of the classifier's two products
RANGES = {"image": (-1.0, 1.0), "Reshape": (0.0, 6.0)}
HERE = [
    pytest.param(name, marks=pytest.mark.skipif(bool(why_unavailable(name)), reason=str(why_unavailable(name))))
    for name in ONNX_ON_CPU
]


def file_of(model: onnx.ModelProto, precision: Precision, backend: str):
    facts = {"precision": precision, "backends": (backend,)}
    return entry_for(model.SerializeToString(), f"model.{precision.value}.cpu.onnx", "onnx", **facts)


def attested(model, spec, precision, backend, least_share=0.9):
    ((entry, _),), layers = attest_graphs([file_of(model, precision, backend)], spec, [backend], least_share)
    return entry.built_for["kernels"][backend], layers


@pytest.fixture
def unfusable(classifier) -> onnx.ModelProto:
    """A convolution whose result nobody counted is read in FP32, and so computed in FP32 by onnxruntime."""
    next(node for node in classifier.graph.node if node.op_type == "Relu").op_type = "Softplus"
    return classifier


@pytest.mark.parametrize("backend", HERE)
def test_an_fp32_graph_is_all_fp32(classifier, spec, backend) -> None:
    found, layers = attested(clean(classifier), spec, Precision.FP32, backend)
    assert found["macs"] == {"fp32": CONV + GEMM}
    assert found["products"] == {"fp32": 2}
    assert found["cpu"] == processor()[0]
    assert {kernel["datatype"] for kernel in layers[f"model.fp32.cpu.onnx on {backend}"] if kernel["nodes"]} == {"fp32"}


@pytest.mark.parametrize("backend", HERE)
def test_an_int8_graph_is_all_int8(classifier, spec, backend) -> None:
    typed, _ = quantize(clean(classifier), RANGES, CPU)
    found, _ = attested(typed, spec, Precision.INT8, backend)
    assert found["macs"] == {"int8": CONV + GEMM}
    assert found["reformats"] >= 1  # the image comes in FP32


@pytest.mark.parametrize("backend", HERE)
def test_what_the_graph_leaves_in_fp32_is_no_fallback(classifier, spec, backend) -> None:
    typed, _ = quantize(clean(classifier), RANGES, CPU, excluded={"Conv"})
    found, _ = attested(typed, spec, Precision.INT8, backend)
    assert found["macs"] == {"fp32": CONV, "int8": GEMM}


def test_a_convolution_that_cannot_be_fused_is_refused_unless_allowed(unfusable, spec) -> None:
    ranges = {"image": (-1.0, 1.0), "Reshape": (0.0, 6.0)}
    typed, decisions = quantize(clean(unfusable), ranges, CPU)
    assert all(decision.quantized for decision in decisions)
    with pytest.raises(BuildError, match=r"onnxruntime-cpu to compute 90% .* found 8% .*fp32 1,296.*--allow-fallback"):
        attested(typed, spec, Precision.INT8, "onnxruntime-cpu")
    found, _ = attested(typed, spec, Precision.INT8, "onnxruntime-cpu", least_share=0.0)
    assert found["macs"] == {"fp32": CONV, "int8": GEMM}


def test_compiling_refuses_it_and_takes_it_when_allowed(unfusable, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("quillrt.compile.graphs.ONNXRUNTIME", replace(ONNXRUNTIME, results=False))
    onnx.save(unfusable, tmp_path / "model.onnx")
    source = load_source(tmp_path / "model.onnx", ("a", "b", "c"))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    noise = ImageSet(pixels, np.arange(60) % 3, ("a", "b", "c"), source.spec.preprocessing)
    images, settings = Images("noise", noise, noise), {"precisions": (Precision.INT8,), "samples": 30}
    with pytest.raises(BuildError, match="--allow-fallback"):
        compile_bundle(source, images, CompileConfig(**settings), tmp_path / "out" / "a.quill")
    assert not (tmp_path / "out").exists()
    allowed = CompileConfig(**settings, allow_fallback=True)
    bundle, *_ = compile_bundle(source, images, allowed, tmp_path / "a.quill")
    entry = next(e for e in bundle.entries if e.path == "model.int8.cpu.onnx")
    assert entry.built_for["kernels"]["onnxruntime-cpu"]["macs"] == {"fp32": CONV, "int8": GEMM}
    report = json.loads(bundle.files["report.json"])
    assert any(kernel["kind"] == "QGemm" for kernel in report["layers"]["model.int8.cpu.onnx on onnxruntime-cpu"])


def test_a_target_that_was_not_asked_for_refuses_nothing(unfusable, spec) -> None:
    typed, _ = quantize(clean(unfusable), {"image": (-1.0, 1.0), "Reshape": (0.0, 6.0)}, CPU)
    ((entry, _),), _ = attest_graphs([file_of(typed, Precision.INT8, "onnxruntime-cpu")], spec, ["tensorrt"], 0.9)
    assert entry.built_for["kernels"]["onnxruntime-cpu"]["macs"]["fp32"] == CONV


def test_what_a_backend_refuses_is_left_for_verifying_to_say(spec) -> None:
    broken = helper.make_model(helper.make_graph([helper.make_node("Abacus", ["image"], ["logits"])], "g", [], []))
    ((entry, _),), layers = attest_graphs([file_of(broken, Precision.FP32, "onnxruntime-cpu")], spec, [], 0.9)
    assert (entry.built_for, layers) == ({}, {})


def test_profiling_leaves_no_file(classifier, spec, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    attested(clean(classifier), spec, Precision.FP32, "onnxruntime-cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "nodes"),
    [
        ("Conv_token_12", "QLinearConv", ("Conv",)),
        ("Relu_nchwc", "Conv", ("Conv",)),
        ("Gemm", "FusedGemm", ("Gemm",)),
        ("logits", "FullyConnected", ("Gemm",)),
        ("MaxPool", "MaxPool", ()),
        ("Conv_abcd_acdb", "Reorder", ()),
        ("another", "Conv", ()),
    ],
)
def test_a_kernel_belongs_to_the_product_it_does(classifier, name, kind, nodes) -> None:
    (kernel,) = attributed(clean(classifier), [LayerInfo(name, kind, "fp32", (name,))])
    assert kernel.nodes == nodes


@pytest.mark.parametrize(
    ("name", "kind", "nodes"),
    [
        ("Relu", "Conv", ("Conv", "Relu")),
        ("Conv", "QLinearConv", ("Conv",)),
        ("MaxPool", "MaxPool", ("MaxPool",)),
        ("ReorderOutput", "ReorderOutput", ()),
    ],
)
def test_a_kernel_has_the_nodes_fused_into_it(classifier, name, kind, nodes) -> None:
    """Its nodes are Conv, Relu, MaxPool, Reshape and Gemm; what onnxruntime puts between is none of them."""
    (kernel,) = with_nodes(clean(classifier), [LayerInfo(name, kind, "fp32", (name,))])
    assert kernel.nodes == nodes


def test_inspect_shows_it_from_the_bundle_alone(quillrt, classifier, spec, tmp_path) -> None:
    kernels = {
        "onnxruntime-cpu": {"products": {"int8": 3, "fp32": 1}, "macs": {"int8": 75, "fp32": 25}, "reformats": 4},
        "openvino": {"products": {"int8": 4}, "macs": {"int8": 100}, "reformats": 6},
    }
    graph = classifier.SerializeToString()
    entry = entry_for(graph, "model.int8.cpu.onnx", "onnx", precision=Precision.INT8, built_for={"kernels": kernels})
    write_bundle(Path(tmp_path, "a.quill"), spec, {"kind": "onnx"}, [entry])
    _, out, _ = quillrt("inspect", tmp_path / "a.quill", "--json")
    assert json.loads(out)["entries"][0]["built_for"]["kernels"] == kernels
    code, out, _ = quillrt("inspect", tmp_path / "a.quill")
    shown = "".join(out.split())
    assert code == 0
    for text in (
        "onnxruntime-cpu:int8×3(75%ofMACs),fp32×1(25%ofMACs)",
        "reformats×4",
        "openvino:int8×4",
        "reformats×6",
    ):
        assert text in shown
