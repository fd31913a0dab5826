"""From a checkpoint to PyTorch programs in a bundle: parity with PyTorch eager on real digits, and what is refused."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from quillrt.compile import pt2
from quillrt.compile.choice import choose
from quillrt.compile.config import CompileConfig
from quillrt.compile.export import eager_logits
from quillrt.compile.pipeline import Compiled, compile_bundle
from quillrt.compile.ranges import Images
from quillrt.compile.source import Source, load_source
from quillrt.compile.verify import verify
from quillrt.runtime.backends import BY_NAME
from quillrt.runtime.errors import BackendUnavailable, BuildError, ExportError
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.pt2 import built_here
from quillrt.runtime.select import open_fitting
from quillrt.train.datasets import Splits, load_dataset
from quillrt.train.devices import check_compiler

pytestmark = pytest.mark.slow  # the C++ compiler
FP32_ONLY = {"precisions": (Precision.FP32,), "targets": ("onnxruntime-cpu", "pytorch")}


def check_or_skip() -> None:
    try:
        check_compiler("cpu")
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def source(stand_in_folder) -> Source:
    return load_source(stand_in_folder / "small.safetensors")


@pytest.fixture(scope="module")
def splits(source) -> Splits:
    return load_dataset("digits", recipe=source.spec.preprocessing)


@pytest.fixture(scope="module")
def images(splits) -> Images:
    return Images("digits", splits.train, splits.validation)


@pytest.fixture(scope="module")
def compiled(source, images, tmp_path_factory) -> Compiled:
    check_or_skip()
    return compile_bundle(source, images, CompileConfig(**FP32_ONLY), tmp_path_factory.mktemp("b") / "a.quill")


def test_a_bundle_holds_both_programs(compiled, images) -> None:
    entries = {e.path: e for e in compiled.bundle.entries if e.path.endswith(".pt2")}
    assert {path: (e.kind, e.backends, e.precision) for path, e in entries.items()} == {
        "model.fp32.pt2": ("program", ("pytorch",), Precision.FP32),
        "model.fp32.aotinductor.pt2": ("engine", ("pytorch-aot",), Precision.FP32),
    }
    assert entries["model.fp32.aotinductor.pt2"].built_for == built_here()
    assert entries["model.fp32.pt2"].measured["pytorch"]["n"] == len(images.validation)


@pytest.mark.parametrize("backend", BY_NAME)
@pytest.mark.parametrize("n", [1, 3])
def test_logits_are_those_of_pytorch_eager_on_real_digits(compiled, source, splits, backend, n) -> None:
    recipe = source.spec.preprocessing
    batch = normalize(fit_images(splits.test, recipe), recipe)[:n]
    with open_fitting(compiled.bundle, backend)[0] as session:
        found = session.run(batch)
    expected = eager_logits(source.checkpoint, batch)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_verifying_runs_code_only_where_it_is_asked_for(compiled, images) -> None:
    at_compile_time = {v.backend: v for v in compiled.verdicts}
    assert all(at_compile_time[name].agreement == 1 and not at_compile_time[name].fault for name in BY_NAME)
    later = {v.backend: v for v in verify(compiled.bundle, images.validation, asked=["pytorch"])}
    assert later["pytorch"].n == len(images.validation)
    assert later["pytorch-aot"].n == 0
    assert "--backend pytorch-aot" in later["pytorch-aot"].reason


def test_code_is_timed_but_never_chosen(compiled, images) -> None:
    choice = choose(compiled.bundle, compiled.verdicts, images.validation, 1)
    assert {timing.backend for timing in choice.timings} >= {*BY_NAME, "onnxruntime-cpu"}
    assert choice.chosen.backend not in BY_NAME
    latencies = [timing.latency_us for timing in choice.timings]
    assert latencies == sorted(latencies)


def test_no_file_names_a_folder_of_this_machine(compiled) -> None:
    for entry in compiled.bundle.entries:
        if entry.path.endswith(".pt2"):
            data = compiled.bundle.read(entry)
            for folder in (tempfile.gettempdir(), Path(torch.__file__).parents[1], Path(pt2.__file__).parents[1]):
                assert f"{folder}/".encode() not in data, (entry.path, folder)
            assert b"stack_trace" not in data


def test_equal_networks_give_equal_programs(source) -> None:
    first, second = (pt2.saved(pt2.export_program(source.checkpoint)) for _ in range(2))
    assert first == second


def test_an_onnx_file_is_refused_in_one_line(source, images, tmp_path) -> None:
    onnx.save(source.graph, tmp_path / "a.onnx")
    loaded = replace(load_source(tmp_path / "a.onnx"), spec=source.spec)
    with pytest.raises(ExportError, match=r"expected a checkpoint .* found an ONNX file") as error:
        compile_bundle(loaded, images, CompileConfig(**FP32_ONLY), tmp_path / "out" / "a.quill")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_without_a_compiler_the_program_is_made_and_the_package_has_its_reason(
    source, images, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    bundle, verdicts, *_ = compile_bundle(source, images, CompileConfig(**FP32_ONLY), tmp_path / "a.quill")
    assert [e.path for e in bundle.entries if e.path.endswith(".pt2")] == ["model.fp32.pt2"]
    (verdict,) = (v for v in verdicts if v.backend == "pytorch-aot")
    assert verdict.reason.startswith("torch.compile needs a compiler (no-such-compiler)")


def test_a_compiler_that_fails_is_one_line(source, monkeypatch) -> None:
    def fails(*arguments, **named):
        raise RuntimeError("C++ compile error\n\nsecond line")

    check_or_skip()
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fails)
    with pytest.raises(BuildError, match="cannot compile the network: C\\+\\+ compile error second line; leave"):
        pt2.compiled(pt2.export_program(source.checkpoint))
