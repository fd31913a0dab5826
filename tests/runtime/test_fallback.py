"""What counts as a fall to another precision, by products counted by hand."""

import json
from pathlib import Path

import pytest

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.fallback import fallback
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.trt_build import BuiltEngine
from quillrt.runtime.trt_layers import LayerInfo


def told(quadrants, precision, products, quantized=None, report=b""):
    """Return what is said of an engine of ``products``, of a graph with so many of ten nodes quantized."""
    graph, _ = entry_for(b"", "graph.onnx", "onnx", precision=Precision(precision))
    layers = [
        LayerInfo(f"{kind}{n}", "correlation", kind, ()) for kind, count in products.items() for n in range(count)
    ]
    layers.append(LayerInfo("mean", "kgen", "fp32", ()))  # which multiplies nothing
    if quantized is not None:
        nodes = [{"name": str(n), "quantized": n < quantized} for n in range(10)]
        report = json.dumps({"nodes": {"graph.onnx": nodes}}).encode()
    bundle = Bundle(Path("m.quill"), Manifest(quadrants.spec, {}, ()), {"report.json": report} if report else {}, "")
    return fallback(bundle, graph, BuiltEngine(b"", "tensorrt", "10.3.0", ("8.7",), 1.0, tuple(layers)))


@pytest.mark.parametrize(
    ("precision", "products", "quantized"),
    [
        ("fp32", {"fp32": 3}, None),
        ("fp16", {"fp16": 9, "fp32": 1}, None),
        ("int8", {"int8": 10}, 10),
        ("int8", {"int8": 10}, None),
        ("int8", {"int8": 4, "fp32": 6}, 4),  # as the graph has it
        ("int8", {"int8": 8, "fp32": 12}, 4),  # kernels for two profiles
        ("int8", {"int8": 9, "fp32": 1}, 4),  # more than was asked for is none the less
        ("int8", {"fp32": 2}, 0),
        ("mixed", {"int8": 6, "fp16": 4}, 6),
        ("fp8", {"fp8": 1}, None),
        ("int8", {}, 10),  # of which nobody knows anything
    ],
)
def test_an_engine_as_the_graph_asks_for(quadrants, precision, products, quantized):
    assert told(quadrants, precision, products, quantized) is None


@pytest.mark.parametrize(
    ("precision", "products", "quantized", "found"),
    [
        ("int8", {"fp32": 8}, 10, "fp32 × 8"),
        ("int8", {"fp32": 8, "int8": 2}, 10, "fp32 × 8, int8 × 2"),
        ("int8", {"fp32": 7, "int8": 3}, 4, "fp32 × 7, int8 × 3"),
        ("fp16", {"fp32": 2, "fp16": 8}, None, "fp32 × 2, fp16 × 8"),
        ("mixed", {"int8": 6, "fp32": 4}, 6, "int8 × 6, fp32 × 4"),
        ("mixed", {"fp16": 10}, 6, "fp16 × 10"),
        ("fp8", {"fp16": 1}, None, "fp16 × 1"),
    ],
)
def test_an_engine_that_falls_back(quadrants, precision, products, quantized, found):
    assert told(quadrants, precision, products, quantized) == (
        f"expected tensorrt to build 90% of the products that graph.onnx has in {precision} so, found {found}"
    )


@pytest.mark.parametrize("report", [b"{", b"[]", b'{"nodes": {}}', b'{"nodes": {"graph.onnx": []}}', b'{"nodes": 1}'])
def test_without_the_compilers_report_all_products_should_be_quantized(quadrants, report):
    assert told(quadrants, "int8", {"int8": 4, "fp32": 6}, report=report) is not None
    assert told(quadrants, "int8", {"int8": 10}, report=report) is None
