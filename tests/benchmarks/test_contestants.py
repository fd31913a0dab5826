import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from quillrt.benchmarks.contestants import NAMES, Contestant, bundle_contestants, only, torch_contestants, tuned
from quillrt.runtime import select
from quillrt.runtime.backends import BACKENDS
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import SessionOptions


@pytest.fixture
def bundle(quadrants):
    files = [
        entry_for(b"int8", "int8.onnx", "onnx", precision=Precision.INT8, backends=("onnxruntime-cpu",)),
        entry_for(b"fp32", "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu", "openvino")),
        entry_for(b"{}", "report.json", "report"),
    ]
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    return Bundle(Path("m.quill"), manifest, {entry.path: data for entry, data in files}, "")


def test_every_pair_of_backend_and_entry_and_every_backend_without_one(bundle):
    found = bundle_contestants(bundle)
    assert {c.backend for c in found} == set(BACKENDS)
    runnable = [(c.name, c.model) for c in found if c.precision]
    assert runnable == [
        ("onnxruntime-cpu fp32", b"fp32"),
        ("onnxruntime-cpu int8", b"int8"),
        ("openvino fp32", b"fp32"),
    ]
    missing = [c for c in found if c.precision is None]
    assert {c.backend for c in missing} == set(BACKENDS) - {"onnxruntime-cpu", "openvino"}
    assert all(c.reason for c in missing)
    with pytest.raises(BackendUnavailable, match=r"\w"):
        missing[0].open(SessionOptions())


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_engines_of_one_precision_the_one_that_fits_takes_part(monkeypatch, quadrants, order):
    def engine(name, **built_for):
        return entry_for(
            name.encode(), name, "engine", precision=Precision.INT8, backends=("tensorrt",), built_for=built_for
        )

    files = [engine("old", tensorrt="9.9"), engine("new", tensorrt="10.3.0")][::order]
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    bundle = Bundle(Path("m.quill"), manifest, {entry.path: data for entry, data in files}, "")
    monkeypatch.setattr(select, "why_unavailable", lambda backend: None)

    def row(version):
        monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version=version))
        (found,) = only(bundle_contestants(bundle), ["tensorrt"])
        return found

    assert (row("10.3.0").model, row("10.3.0").reason) == (b"new", None)
    assert row("9.9").model == b"old"
    assert re.search(r"is for tensorrt (9\.9|10\.3\.0), this is 11\.4; run quillrt build", row("11.4").reason)


def test_pytorch_without_a_checkpoint_has_its_reason(quadrants):
    without = torch_contestants(quadrants.spec, None)
    assert {c.reason for c in without} == {"no checkpoint was given: --checkpoint CKPT.safetensors"}
    assert [c.name for c in without] == [
        "eager fp32", "torch-compile fp32", "eager-cuda fp32", "torch-compile-cuda fp32",
    ]  # fmt: skip


def test_a_checkpoint_that_is_not_there_is_an_error_at_once(quadrants, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        torch_contestants(quadrants.spec, tmp_path / "none.safetensors")


def test_only_the_backends_that_are_named(bundle):
    contestants = bundle_contestants(bundle)
    assert only(contestants, ()) == contestants
    assert [c.name for c in only(contestants, ["openvino"])] == ["openvino fp32"]
    with pytest.raises(ConfigError, match="cuda-magic") as error:
        only(contestants, ["cuda-magic"])
    assert all(name in str(error.value) for name in NAMES)


def test_options_reach_the_session_of_their_backend_and_no_other(monkeypatch, bundle):
    opened = []
    monkeypatch.setattr(
        "quillrt.benchmarks.contestants.open_session",
        lambda name, model, spec, options: opened.append((name, options.threads, dict(options.provider_options))),
    )
    cuda = Contestant("onnxruntime-cuda", "fp32", bundle.manifest.model, b"fp32")
    cpu = Contestant("onnxruntime-cpu", "fp32", bundle.manifest.model, b"fp32")

    rows = tuned([cuda, cpu], {"prefer_nhwc": "1"}, [("io_binding", "0"), ("enable_cuda_graph", "1")])
    for row in rows:
        row.open(SessionOptions(threads=3))

    assert [row.name for row in rows] == [
        "onnxruntime-cuda fp32",
        "onnxruntime-cuda fp32 io_binding=0",
        "onnxruntime-cuda fp32 enable_cuda_graph=1",
        "onnxruntime-cpu fp32",
    ]
    assert opened == [
        ("onnxruntime-cuda", 3, {"prefer_nhwc": "1"}),
        ("onnxruntime-cuda", 3, {"prefer_nhwc": "1", "io_binding": "0"}),
        ("onnxruntime-cuda", 3, {"prefer_nhwc": "1", "enable_cuda_graph": "1"}),
        ("onnxruntime-cpu", 3, {}),
    ]
    assert tuned([cpu], {}, []) == [cpu]
