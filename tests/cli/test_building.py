"""The verb build, with TensorRT-RTX's real builder, which needs no GPU."""

import json
import shutil
from dataclasses import replace

import pytest

from quillrt.runtime import native
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.pretrained import find

pytestmark = pytest.mark.tensorrt
pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
ENGINE = "model.int8.tensorrt-rtx.engine"


@pytest.fixture
def bundle(tmp_path):
    return shutil.copy(find("digits", ".quill"), tmp_path / "digits.quill")


def engines(result):
    code, out, _ = result
    assert code == 0
    return json.loads(out)["engines"]


def test_an_engine_is_built_once(quillrt, bundle):
    (first,) = engines(quillrt("build", bundle, "--backend", "tensorrt-rtx", "--json"))
    (again,) = engines(quillrt("build", bundle, "--backend", "tensorrt-rtx", "--json"))
    assert (first["file"], first["precision"], first["products"]) == (ENGINE, "int8", {"int8": 8})
    assert (first["built_now"], again["built_now"]) == (True, False)
    assert first["sha256"] == again["sha256"]


def test_a_timing_cache_that_is_not_used_is_named(quillrt, bundle, tmp_path):
    asked = ("build", bundle, "--backend", "tensorrt-rtx")
    assert "is not used" not in quillrt(*asked)[2]
    code, _, err = quillrt(*asked, "--timing-cache", tmp_path / "t.cache")
    assert code == 0
    said = f"{tmp_path / 't.cache'} is not used; --no-cache --write builds anew"
    assert f"model.int8.tensorrt.onnx: built before, {said}" in " ".join(err.split())


def test_other_options_are_another_engine(quillrt, bundle):
    (first,) = engines(quillrt("build", bundle, "--backend", "tensorrt-rtx", "--json"))
    both = ("--shapes", "1:8:64", "--shapes", "65:128:256", "--write")
    (other,) = engines(quillrt("build", bundle, "--backend", "tensorrt-rtx", *both, "--json"))
    assert other["built_now"]
    assert other["bytes"] > first["bytes"]  # a set of kernels for each profile
    assert other["products"] == {"int8": 16}


def test_write_replaces_the_engine_and_nothing_else(quillrt, bundle):
    engines(quillrt("build", bundle, "--backend", "tensorrt-rtx", "--precision", "int8", "--write", "--json"))
    before = Bundle.open(bundle)
    assert ENGINE in before.files
    shapes = ("--shapes", "1x1x28x28:2x1x28x28:4x1x28x28", "--precision", "int8")
    (built,) = engines(quillrt("build", bundle, "--backend", "tensorrt-rtx", *shapes, "--write", "--json"))
    after = Bundle.open(bundle)
    assert {entry.path for entry in after.entries} == {entry.path for entry in before.entries}
    changed = [e for e in after.entries if e not in before.entries]
    assert [(e.path, e.sha256) for e in changed] == [(ENGINE, built["sha256"])]
    assert changed[0].built_for["options"]["profiles"][0]["largest"] == [4, 1, 28, 28]
    assert changed[0].built_for["seconds"] == built["seconds"] > 0
    assert after.manifest.confidence == before.manifest.confidence


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("--shapes", "1x3x28x28"), "expected shapes Nx1x28x28 for the input 'image', found 1x3x28x28"),
        (("--shapes", "28x28"), "expected shapes Nx1x28x28 for the input 'image', found 28x28"),
        (("--workspace", "0.001"), "no tactics to implement the operation within workspace limit"),
        (("--version-compatible",), "cannot build with --version-compatible: its engines run on the version"),
        (("--hardware-compatibility", "ampere-plus"), "cannot build with --hardware-compatibility"),
        (("--dla-core", "0"), "cannot build with --dla-core: it runs on GPUs alone"),
        (("--timing-cache", "t.cache"), "has no use for a timing cache"),
        (("--compute-capability", "9.0"), "builds for compute capability 7.5, "),
        (("--precision", "fp8"), "it has no graph of fp8 precision for it"),
        (
            ("--precision", "tf32"),
            "found tf32, which is the FP32 graph with products that round; give --precision fp32",
        ),
        (("--backend", "openvino"), "expected a backend out of tensorrt, tensorrt-rtx, found 'openvino'"),
    ],
)
def test_what_cannot_be_built_is_one_line(quillrt, bundle, options, phrase):
    code, out, err = quillrt("build", "-q", bundle, "--write", "--backend", "tensorrt-rtx", *options)
    assert (code, out) == (1, "")
    assert err.startswith("quillrt: error: ")
    assert err.count("\n") == 1
    assert phrase in err


@pytest.fixture
def falls_back(monkeypatch):
    """Let every kernel that is built be an FP32 one."""
    build = native.build_engine

    def built(*given):
        found = build(*given)
        return replace(found, layers=tuple(replace(layer, datatype="fp32") for layer in found.layers))

    monkeypatch.setattr(native, "build_engine", built)


def test_an_engine_in_another_precision_is_refused_unless_allowed(quillrt, bundle, falls_back):
    before = bundle.read_bytes()
    asked = ("build", "-q", bundle, "--backend", "tensorrt-rtx", "--precision", "int8", "--write")
    code, out, err = quillrt(*asked)
    assert (code, out, bundle.read_bytes()) == (1, "", before)
    assert err == (
        "quillrt: error: expected tensorrt-rtx to build 90% of the products that model.int8.tensorrt.onnx has in int8 "
        "so, found fp32 × 8; choose another --precision, or give --allow-fallback\n"
    )
    (built,) = engines(quillrt(*asked, "--allow-fallback", "--json"))
    assert built["products"] == {"fp32": 8}


def test_an_engine_that_tells_nothing_is_said_to_tell_nothing(quillrt, bundle):
    asked = ("build", bundle, "--backend", "tensorrt-rtx", "--write", "--verbosity")
    code, out, err = quillrt(*asked, "none")
    assert code == 0
    assert "not told" in out
    assert "at --verbosity none, so nobody can say what they compute in" in err


@pytest.mark.parametrize("options", [("--tf32",), ("--shapes", "1:2:4"), ("--no-cache",)])
def test_an_engine_that_run_would_not_find_is_not_built(quillrt, bundle, options):
    code, _, err = quillrt("build", bundle, *options)
    assert code == 1
    assert "expected --write beside " in err


def test_a_pretrained_bundle_is_not_written_to(quillrt):
    code, _, err = quillrt("build", "models:digits", "--write")
    assert code == 1
    assert "expected a bundle of yours to --write to, found models:digits" in err


def test_an_engine_that_cannot_be_kept_is_no_success(quillrt, bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("where a folder is expected")
    monkeypatch.setenv("QUILLRT_CACHE", str(tmp_path / "file"))
    code, out, err = quillrt("build", bundle, "--backend", "tensorrt-rtx", "--quiet")
    assert (code, out) == (1, "")
    assert err.startswith("quillrt: error: expected to keep the engine of model.int8.tensorrt.onnx in")
