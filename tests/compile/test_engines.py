"""What an engine is attested to compute in, from kernel lists made by hand; real builds are in test_networks."""

from __future__ import annotations

import pytest

from quillrt.compile.engines import attest, build_engines
from quillrt.compile.fp16 import to_fp16
from quillrt.compile.names import clean
from quillrt.compile.quantize import TENSORRT, quantize
from quillrt.runtime import native
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.cache import Cache
from quillrt.runtime.errors import BuildError
from quillrt.runtime.precision import Precision
from quillrt.runtime.trt_build import BuiltEngine
from quillrt.runtime.trt_layers import LayerInfo

CONV, GEMM = 6 * 6 * 4 * 9, 36 * 3  # multiply-adds of the classifier's two products
RANGES = {"image": (-1.0, 1.0), "Reshape": (0.0, 6.0)}


def built(**datatypes: str) -> BuiltEngine:
    layers = [LayerInfo("shuffle", "kgen", "fp32", ("MaxPool",))]
    layers += [
        LayerInfo(f"k_{node}", "correlation", kind, (f"{node}.weight", node)) for node, kind in datatypes.items()
    ]
    return BuiltEngine(b"engine", "tensorrt-rtx", "1.7", ("8.6",), 0.1, tuple(layers))


@pytest.fixture
def int8(classifier) -> bytes:
    typed, _ = quantize(clean(classifier), RANGES, TENSORRT)
    return typed.SerializeToString()


@pytest.mark.parametrize(
    ("datatypes", "macs", "share"),
    [
        ({"Conv": "int8", "Gemm": "int8"}, {"int8": CONV + GEMM}, 1),
        ({"Conv": "int8", "Gemm": "fp32"}, {"int8": CONV, "fp32": GEMM}, CONV / (CONV + GEMM)),
        ({"Conv": "fp16"}, {"fp16": CONV, "unknown": GEMM}, 0),
    ],
)
def test_multiply_adds_by_datatype(int8, datatypes, macs, share) -> None:
    assert attest(int8, built(**datatypes), "int8")[:2] == (macs, pytest.approx(share))


def test_what_the_graph_leaves_in_fp32_is_no_fallback(classifier) -> None:
    typed, _ = quantize(clean(classifier), RANGES, TENSORRT, excluded={"Conv"})
    computed = attest(typed.SerializeToString(), built(Conv="fp32", Gemm="int8"), "int8")
    assert computed == ({"fp32": CONV, "int8": GEMM}, 1, ())


def test_what_falls_back_is_named(int8) -> None:
    computed = attest(int8, built(Conv="int8", Gemm="fp32"), "int8")
    assert computed.strays == ("Gemm",)
    assert f"(int8 {CONV:,}, fp32 {GEMM:,}), not so Gemm" in str(computed)


def test_all_of_an_fp16_graph_counts(classifier) -> None:
    graph = clean(classifier).SerializeToString()
    assert attest(graph, built(Conv="fp16", Gemm="fp32"), "fp16")[1] == pytest.approx(CONV / (CONV + GEMM))


def test_a_builder_that_lists_no_kernels_attests_nothing(int8) -> None:
    assert attest(int8, BuiltEngine(b"", "tensorrt", "10.3", ("8.7",), 0.1, ()), "int8")[0] == {}


def test_an_engine_in_another_precision_is_refused_unless_allowed(int8, monkeypatch) -> None:
    monkeypatch.setattr(native, "build_engine", lambda *given: built(Conv="fp32", Gemm="int8"))
    graph = entry_for(int8, "model.int8.onnx", "onnx", precision=Precision.INT8, typed_for=("tensorrt-rtx",))
    with pytest.raises(
        BuildError, match=r"90% of .* in int8, found 8% \(fp32 1,296, int8 108\), not so Conv; .*--allow-fallback"
    ):
        build_engines([graph], [Precision.INT8], ["tensorrt-rtx"])
    ((entry, _),), layers = build_engines([graph], [Precision.INT8], ["tensorrt-rtx"], least_share=0)
    assert entry.built_for["macs"] == {"fp32": CONV, "int8": GEMM}
    assert entry.built_for["products"] == {"fp32": 1, "int8": 1}
    assert len(layers[entry.path]) == 3


def test_an_engine_that_is_kept_is_not_built_again(int8, monkeypatch, tmp_path) -> None:
    pytest.importorskip("tensorrt_rtx")
    calls = []
    monkeypatch.setattr(native, "build_engine", lambda *given: calls.append(given) or built(Conv="int8", Gemm="int8"))
    entry = entry_for(int8, "model.int8.onnx", "onnx", precision=Precision.INT8, typed_for=("tensorrt-rtx",))
    first, second = (
        build_engines([entry], [Precision.INT8], ["tensorrt-rtx"], cache=Cache(tmp_path)) for _ in range(2)
    )
    assert len(calls) == 1
    assert first == second == build_engines([entry], [Precision.INT8], ["tensorrt-rtx"])
    assert len(calls) == 2


@pytest.mark.tensorrt
def test_mixed_is_int8_and_fp16_for_real(classifier) -> None:
    pytest.importorskip("tensorrt_rtx")
    for excluded, macs in (((), {"int8": CONV + GEMM}), (("Conv",), {"fp16": CONV, "int8": GEMM})):
        typed = to_fp16(quantize(clean(classifier), RANGES, TENSORRT, excluded)[0]).SerializeToString()
        entry = entry_for(typed, "model.mixed.onnx", "onnx", precision=Precision.MIXED, typed_for=("tensorrt-rtx",))
        ((engine, _),), _ = build_engines([entry], [Precision.MIXED], ["tensorrt-rtx"])
        assert (engine.path, engine.built_for["macs"]) == ("model.mixed.tensorrt-rtx.engine", macs)


def test_mixed_asks_for_fp16_where_it_is_not_quantized(classifier) -> None:
    graph = to_fp16(quantize(clean(classifier), RANGES, TENSORRT, {"Conv"})[0]).SerializeToString()
    assert attest(graph, built(Conv="fp16", Gemm="int8"), "mixed")[1] == 1
    assert attest(graph, built(Conv="fp32", Gemm="int8"), "mixed")[1] == pytest.approx(GEMM / (CONV + GEMM))
