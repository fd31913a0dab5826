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
        entry_for(b"g" * 1024, "model.int8.onnx", "onnx", precision=Precision.INT8, typed_for=("tensorrt",)),
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
    engine, graph, report = (line for line in out.splitlines() if "model.int8" in line or "report.json" in line)
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
        hashlib.sha256(data).hexdigest() for data in (b"e" * 2048, b"g" * 1024, b"{}")
    ]


def test_inspect_says_what_each_engine_is_for_and_whether_it_fits_here(monkeypatch, quillrt, tmp_path):
    def engine(name, version, capability, **options):
        facts = {"tensorrt": version, "compute_capabilities": [capability], "options": options}
        return entry_for(
            name.encode(), name, "engine", precision=Precision.INT8, backends=("tensorrt",), built_for=facts
        )

    files = [engine("orin", "10.3.0", "8.7", sparsity=True), engine("old", "10.3.0", "7.2")]
    write_bundle(tmp_path / "m.quill", character_spec(LABELS, Preprocessing(8, 8)), {"kind": "onnx"}, files)
    monkeypatch.setattr(select, "why_unavailable", lambda backend: None)
    monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version="10.3.0"))
    orin = Device("Orin", "aarch64", 6, (), (Gpu("Orin", "8.7", "12.6", 8 << 30),), None)
    monkeypatch.setattr(select, "describe_device", lambda: orin)

    _, out, _ = quillrt("inspect", tmp_path / "m.quill")
    assert "orin is for tensorrt 10.3.0 on SM 8.7, built with sparsity True; here: fits" in out
    assert "old is for tensorrt 10.3.0 on SM 7.2; here: old is for tensorrt 10.3.0 on SM 7.2, this is 10.3.0" in out
    _, out, _ = quillrt("inspect", tmp_path / "m.quill", "--json")
    found = json.loads(out)["here"]
    assert found["orin"] == {"tensorrt": None}
    assert "run quillrt build" in found["old"]["tensorrt"]


def test_nodes_that_the_report_does_not_have(quillrt, bundle):
    code, out, err = quillrt("inspect", bundle, "--nodes")
    assert (code, out) == (1, "")
    assert "expected a report of the compiler" in err
