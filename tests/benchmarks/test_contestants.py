import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from quillrt.benchmarks.contestants import Contestant, bundle_contestants, rebuilt, torch_contestants
from quillrt.benchmarks.variants import only
from quillrt.runtime import select
from quillrt.runtime.backends import BACKENDS
from quillrt.runtime.build_options import BuildOptions, Profile
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.device import Device, Gpu
from quillrt.runtime.errors import BackendUnavailable, CheckpointError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import SessionOptions


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


def test_a_bundle_without_an_engine_has_the_command_that_builds_one(monkeypatch, bundle):
    monkeypatch.setattr("quillrt.benchmarks.contestants.why_unavailable", lambda backend, device: None)
    reasons = {c.backend: c.reason for c in bundle_contestants(bundle)}
    assert reasons["tensorrt"] == "m.quill holds no file for tensorrt; quillrt build m.quill --backend tensorrt --write"
    assert reasons["litert"] == "m.quill holds no file for litert"


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_engines_of_one_precision_the_one_that_fits_takes_part(monkeypatch, quadrants, order):
    def engine(name, **built_for):
        return entry_for(
            name.encode(), name, "engine", precision=Precision.INT8, backends=("tensorrt",), built_for=built_for
        )

    files = [engine("old", tensorrt="9.9"), engine("new", tensorrt="10.3.0")][::order]
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    bundle = Bundle(Path("m.quill"), manifest, {entry.path: data for entry, data in files}, "")
    monkeypatch.setattr(select, "why_unavailable", lambda backend, device: None)

    def row(version):
        monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version=version))
        (found,) = only(bundle_contestants(bundle), ["tensorrt"])
        return found

    assert (row("10.3.0").model, row("10.3.0").reason) == (b"new", None)
    assert row("9.9").model == b"old"
    assert re.search(r"is for tensorrt (9\.9|10\.3\.0), this is 11\.4; run quillrt build", row("11.4").reason)


@pytest.mark.parametrize("order", [1, -1])
def test_an_engine_with_host_code_takes_part_where_its_backend_is_named(monkeypatch, quadrants, order):
    def engine(name, **options):
        facts = {"tensorrt": "10.3.0", "options": options}
        entry = {"precision": Precision.INT8, "backends": ("tensorrt",), "built_for": facts}
        return entry_for(name.encode(), name, "engine", **entry)

    files = [engine("portable", version_compatible=True), engine("plain")][::order]
    monkeypatch.setattr(select, "why_unavailable", lambda backend, device: None)
    monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version="10.3.0"))
    opened = []
    monkeypatch.setattr(
        "quillrt.benchmarks.contestants.open_session",
        lambda name, model, spec, options: opened.append((model, options.host_code)),
    )

    def row(files, *asked):
        manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
        bundle = Bundle(Path("m.quill"), manifest, {entry.path: data for entry, data in files}, "")
        (found,) = only(bundle_contestants(bundle, asked), ["tensorrt"])
        return found

    row(files).open(SessionOptions())
    (portable,) = [file for file in files if file[0].path == "portable"]
    assert "tensorrt runs code out of the bundle" in row([portable]).reason
    row([portable], "tensorrt").open(SessionOptions())
    assert opened == [(b"plain", False), (b"portable", True)]


@pytest.mark.parametrize(("gpu", "runs"), [(0, False), (1, True)])
def test_tf32_is_a_row_of_the_gpus_that_have_it(monkeypatch, quadrants, gpu, runs):
    entry = entry_for(quadrants.onnx, "m.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cuda",))
    bundle = Bundle(Path("m.quill"), Manifest(quadrants.spec, {}, (entry[0],)), {"m.onnx": entry[1]}, "")
    gpus = tuple(Gpu("some GPU", capability, "13.0", 2**33) for capability in ("7.5", "8.0"))
    monkeypatch.setattr(select, "why_unavailable", lambda backend, device: None)
    monkeypatch.setattr(select, "describe_device", lambda: Device("some CPU", "x86_64", 2, (), gpus, None))

    found = {row.precision: row.reason for row in bundle_contestants(bundle, device=gpu) if row.model}

    assert found == {"fp32": None, "tf32": None if runs else "tf32 needs compute capability 8.0, this some GPU has 7.5"}


def test_pytorch_without_a_checkpoint_has_its_reason(quadrants):
    without = torch_contestants(quadrants.spec, None)
    assert {c.reason for c in without} == {"no checkpoint was given: --checkpoint CKPT.safetensors"}
    assert [c.name for c in without] == [
        "eager fp32", "torch-compile fp32", "eager-cuda fp32", "torch-compile-cuda fp32",
    ]  # fmt: skip


def test_a_checkpoint_that_is_not_there_is_an_error_at_once(quadrants, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        torch_contestants(quadrants.spec, tmp_path / "none.safetensors")


def test_an_engine_is_built_again_as_it_was_from_the_bundles_graph(monkeypatch, quadrants):
    """The builder stands in; what it is given is the graph, and the options that the engine's entry tells."""
    options = BuildOptions(profiles=(Profile((1,), (2,), (4,)),), tf32=True)
    facts = {"tensorrt": "10.3.0", "options": options.changed, "seconds": 12.5}
    files = [
        entry_for(b"graph", "fp32.onnx", "onnx", precision=Precision.FP32, typed_for=("tensorrt",)),
        entry_for(b"first", "e", "engine", precision=Precision.TF32, backends=("tensorrt",), built_for=facts),
    ]
    # What a bundle keeps is JSON: tuples come back as lists.
    entries = tuple(replace(e, built_for=json.loads(json.dumps(e.built_for))) for e, _ in files)
    bundle = Bundle(Path("m.quill"), Manifest(quadrants.spec, {}, entries), {e.path: d for e, d in files}, "")
    monkeypatch.setattr(select, "why_unavailable", lambda backend, device: None)
    monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version="10.3.0"))
    (row,) = only(bundle_contestants(bundle), ["tensorrt"])
    assert (row.model, row.build_s) == (b"first", 12.5)
    monkeypatch.setattr(
        "quillrt.benchmarks.contestants.build_engine",
        lambda *given, device: SimpleNamespace(engine=repr((*given, device)).encode(), seconds=3.0),
    )
    again, seconds = rebuilt(row, 1)
    assert (again.model, seconds) == (repr((b"graph", "tensorrt", options, 1)).encode(), 3.0)
    cpu = Contestant("onnxruntime-cpu", "fp32", quadrants.spec, b"graph")
    assert rebuilt(cpu) == (cpu, None)


def test_tf32_is_a_row_of_the_fp32_graph_with_an_option(monkeypatch, quadrants):
    file = entry_for(b"fp32", "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cuda", "openvino"))
    manifest = Manifest(quadrants.spec, {}, (file[0],))
    monkeypatch.setattr(select, "why_unavailable", lambda backend, device: None)
    rows = bundle_contestants(Bundle(Path("m.quill"), manifest, {"fp32.onnx": b"fp32"}, ""))
    named = [row for row in rows if row.precision]
    assert [row.name for row in named] == ["onnxruntime-cuda fp32", "onnxruntime-cuda tf32", "openvino fp32"]
    opened = []
    monkeypatch.setattr("quillrt.benchmarks.contestants.open_session", lambda *given: opened.append(given[3].tf32))
    for row in named:
        row.open(SessionOptions())
    assert opened == [False, True, False]


def test_on_a_gpu_pytorch_has_a_row_of_each_precision(quadrants, tmp_path):
    (tmp_path / "c.safetensors").write_bytes(b"")
    rows = torch_contestants(quadrants.spec, tmp_path / "c.safetensors", tuple(Precision))
    assert [row.name for row in rows if "cuda" not in row.backend] == ["eager fp32", "torch-compile fp32"]
    assert [row.precision for row in rows if row.backend == "eager-cuda"] == ["fp32", "tf32", "fp16", "bf16"]
