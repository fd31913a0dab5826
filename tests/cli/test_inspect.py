import hashlib
import json
from types import SimpleNamespace

import pytest

from quillrt.runtime import select
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.device import Device, Gpu
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec

GRAPH = b"\x3a\x00\x32\xfb\x07" + b"g" * 1019  # an empty graph and its description: 1024 bytes
LABELS = ("[", "]", "[bold]", ":", ":smile:", "é")  # what a table drawer would like to interpret


@pytest.fixture
def bundle(tmp_path):
    measured = {"tensorrt": {"dataset": "digits", "part": "validation", "n": 270, "accuracy": 0.98765}}
    files = [
        entry_for(
            b"e" * 2048,
            "model.int8.tensorrt.engine",
            "engine",
            precision=Precision.INT8,
            backends=("tensorrt",),
            measured=measured,
        ),
        entry_for(GRAPH, "model.int8.onnx", "onnx", precision=Precision.INT8, typed_for=("tensorrt",)),
        entry_for(b"{}", "report.json", "report"),
    ]
    write_bundle(
        tmp_path / "model.quill",
        character_spec(LABELS, Preprocessing(8, 8, denoise=("median", "levels"))),
        {"kind": "onnx"},
        files,
    )
    return tmp_path / "model.quill"


def test_inspect_shows_what_a_bundle_holds(quillrt, bundle):
    code, out, err = quillrt("inspect", bundle)

    assert (code, err) == (0, "")
    assert "model.quill: image (N, 1, 8, 8) -> logits (N, 6)" in out
    assert "labels [ ] [bold] : :smile: é" in out
    assert "denoise=('median', 'levels')" in " ".join(out.split())
    held, _ = out.split("native engines")
    engine, graph, report = (line for line in held.splitlines() if "model.int8" in line or "report.json" in line)
    assert all(word in engine for word in ("model.int8.tensorrt.engine", "int8", "tensorrt", " 2 ", "98.77 %", "270"))
    assert all(word in graph for word in ("model.int8.onnx", "int8", "tensorrt", " 1 "))
    assert "int8" not in report


def test_inspect_as_json_is_the_manifest_and_its_fingerprint(quillrt, bundle):
    code, out, _ = quillrt("inspect", bundle, "--json")

    found = json.loads(out)
    assert code == 0
    assert found["sha256"] == Bundle.open(bundle).sha256
    assert found["model"]["labels"] == list(LABELS)
    assert found["model"]["preprocessing"]["denoise"] == ["median", "levels"]
    assert [entry["sha256"] for entry in found["entries"]] == [
        hashlib.sha256(data).hexdigest() for data in (b"e" * 2048, GRAPH, b"{}")
    ]


def engine_of(**built_for):
    """Return an engine built by full TensorRT, named for the first GPU that it is for."""
    name = f"model.sm{built_for['compute_capabilities'][0]}.engine"
    return entry_for(b"e", name, "engine", precision=Precision.INT8, backends=("tensorrt",), built_for=built_for)


@pytest.fixture
def engines(monkeypatch, tmp_path):
    """A bundle of three engines, on a machine with an Orin and TensorRT 10.3."""
    files = [
        engine_of(tensorrt="10.3.0", compute_capabilities=["8.7"], gpu="Orin"),
        engine_of(tensorrt="10.3.0", compute_capabilities=["8.9"], options={"version_compatible": True}),
        engine_of(tensorrt="10.3.0", compute_capabilities=["8.0+"], options={"hardware_compatibility": "ampere-plus"}),
    ]
    write_bundle(tmp_path / "engines.quill", character_spec(LABELS, Preprocessing(8, 8)), {"kind": "onnx"}, files)
    device = Device("Jetson", "aarch64", 6, (), (Gpu("Orin", "8.7", "12.6", 8 << 30),), None)
    monkeypatch.setattr(select, "describe_device", lambda: device)
    monkeypatch.setattr(select, "why_unavailable", lambda name, device: None)
    monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version="10.3.0"))
    return tmp_path / "engines.quill"


def test_inspect_shows_what_each_native_engine_is_for(quillrt, engines):
    code, out, err = quillrt("inspect", engines)

    assert (code, err) == (0, "")
    table = " ".join(out.split("native engines")[1].split())
    assert "model.sm8.7.engine tensorrt 10.3.0 8.7 fits" in table
    assert "model.sm8.9.engine tensorrt 10.3.0 8.9 later TensorRT model.sm8.9.engine is for tensorrt 10.3.0" in table
    assert "model.sm8.0+.engine tensorrt 10.3.0 8.0+ other GPUs model.sm8.0+.engine is hardware compatible" in table


def test_inspect_as_json_tells_of_each_native_engine(quillrt, engines):
    code, out, _ = quillrt("inspect", engines, "--json")

    ours, other, portable = json.loads(out)["engines"]
    assert code == 0
    assert ours == {
        "file": "model.sm8.7.engine",
        "backend": "tensorrt",
        "tensorrt": "10.3.0",
        "compute_capabilities": ["8.7"],
        "gpu": "Orin",
        "hardware_compatible": False,
        "version_compatible": False,
        "why_not": None,
    }
    assert (other["version_compatible"], other["hardware_compatible"]) == (True, False)
    assert other["why_not"].endswith("on SM 8.9, this is 10.3.0 on SM 8.7 (Orin); run quillrt build")
    assert (portable["version_compatible"], portable["hardware_compatible"]) == (False, True)


def test_inspect_says_why_no_engine_runs_where_there_is_no_tensorrt(monkeypatch, quillrt, engines):
    monkeypatch.setattr(select, "why_unavailable", lambda name, device: f"{name} is not here")
    _, out, _ = quillrt("inspect", engines, "--json")
    assert {engine["why_not"] for engine in json.loads(out)["engines"]} == {"tensorrt is not here"}


def test_a_bundle_without_engines_has_no_table_of_them(quillrt, quadrants_bundle):
    assert "native engines" not in quillrt("inspect", quadrants_bundle)[1]
    assert json.loads(quillrt("inspect", quadrants_bundle, "--json")[1])["engines"] == []


def test_nodes_that_the_report_does_not_have(quillrt, bundle):
    code, out, err = quillrt("inspect", bundle, "--nodes")
    assert (code, out) == (1, "")
    assert "expected a report of the compiler" in err
