"""The choice among timings made by hand, and a whole compilation that keeps the fastest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from quillrt.compile.choice import Timing, choose, chosen
from quillrt.compile.config import CompileConfig
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.ranges import Images
from quillrt.compile.source import Source, load_source
from quillrt.compile.verify import Verdict
from quillrt.runtime.backends import open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import AccuracyError, ConfigError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import normalize
from quillrt.runtime.select import open_fitting

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def timing(precision: Precision, us: float, backend: str = "openvino") -> Timing:
    return Timing(f"model.{precision.value}.onnx", backend, precision, us, 0.0)


def test_the_fastest_is_kept_where_it_gains_enough() -> None:
    found = chosen([timing(INT8, 90), timing(FP32, 100), timing(FP32, 120, "onnxruntime-cpu")], 1)
    assert found.chosen == timing(INT8, 90)
    assert found.note == "int8 on openvino is the fastest, 10% less time than fp32 on openvino"


def test_a_gain_under_two_percent_is_not_worth_its_precision() -> None:
    found = chosen(
        [timing(INT8, 99), timing(FP16, 100), timing(FP32, 100.9), timing(FP32, 101.5, "onnxruntime-cpu")], 1
    )
    assert found.chosen == timing(FP32, 100.9)
    assert (
        found.note == "int8 on openvino takes 1.9% less time than fp32 on openvino, under 2%: the simpler one is kept"
    )


def test_of_one_precision_the_fastest_backend_is_kept() -> None:
    fast, slow = timing(FP32, 99), timing(FP32, 100, "onnxruntime-cpu")
    assert chosen([fast, slow], 64).chosen == fast


@pytest.fixture
def source(classifier, tmp_path) -> Source:
    onnx.save(classifier, tmp_path / "model.onnx")
    return load_source(tmp_path / "model.onnx", ("a", "b", "c"))


@pytest.fixture
def images(source) -> Images:
    noise = np.random.default_rng(1).integers(0, 256, (200, 8, 8)).astype(np.uint8)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        answers = session.run(normalize(noise, source.spec.preprocessing)).argmax(axis=1).astype(np.int64)
    part = ImageSet(noise, answers, ("a", "b", "c"), source.spec.preprocessing)
    return Images("noise", replace(part, labels=np.arange(200) % 3), part)


def timed(monkeypatch, order: list[tuple[Precision, str]]) -> None:
    """Let the clock say that files are as fast as ``order`` has them, 100 us apart."""

    def choose_by(bundle, verdicts, validation, batch, track):
        able = [v for v in verdicts if v.n and not v.fault]
        rows = [Timing(v.path, v.backend, v.precision, 100.0 * order.index((v.precision, v.backend)), 0) for v in able]
        return chosen(sorted(rows, key=lambda t: t.latency_us), batch)

    monkeypatch.setattr("quillrt.compile.pipeline.choose", choose_by)


BOTH = [(p, b) for p in (FP32, FP16, INT8) for b in ("onnxruntime-cpu", "openvino")]


@pytest.mark.parametrize(
    ("first", "files"),
    [
        ((INT8, "openvino"), {"model.int8.cpu.onnx", "model.int8.tensorrt.onnx", "calibration.json"}),
        ((FP16, "onnxruntime-cpu"), {"model.fp16.onnx"}),
        ((FP32, "openvino"), set()),
    ],
)
def test_only_what_is_chosen_stays_and_runs_first(source, images, tmp_path, monkeypatch, first, files) -> None:
    timed(monkeypatch, [first, *(pair for pair in BOTH if pair != first)])
    compiled = compile_bundle(source, images, CompileConfig(auto=True, samples=50), tmp_path / "a.quill")
    assert {e.path for e in compiled.bundle.entries} == {"model.fp32.onnx", "report.json"} | files
    assert compiled.choice.chosen.precision is first[0]
    session, entry, backend = open_fitting(Bundle.open(tmp_path / "a.quill"))
    session.close()
    assert (entry.precision, backend) == first


def test_int8_that_no_gate_lets_through_leaves_the_others_to_compete(source, images, tmp_path, monkeypatch) -> None:
    def nothing_holds(*_):
        raise AccuracyError("none")

    monkeypatch.setattr("quillrt.compile.pipeline.search", nothing_holds)
    config = CompileConfig(auto=True, samples=50, max_drop=0.0)
    compiled = compile_bundle(source, images, config, tmp_path / "a.quill")
    assert {v.precision for v in compiled.verdicts} == {FP32, FP16}
    with pytest.raises(AccuracyError, match="none"):
        compile_bundle(source, images, replace(config, auto=False), tmp_path / "b.quill")
    assert not (tmp_path / "b.quill").exists()


def test_what_is_at_fault_is_not_timed(source, images, tmp_path, monkeypatch) -> None:
    compiled = compile_bundle(source, images, CompileConfig(samples=50), tmp_path / "a.quill")
    wrong = [replace(v, fault="it errs") if v.precision is INT8 else v for v in compiled.verdicts]
    found = choose(compiled.bundle, wrong, images.validation, batch=300)
    assert {t.precision for t in found.timings} == {FP32, FP16}
    assert all(t.latency_us > 0 for t in found.timings)
    assert [t.latency_us for t in found.timings] == sorted(t.latency_us for t in found.timings)
    with pytest.raises(AccuracyError, match="found none"):
        choose(compiled.bundle, [Verdict("x", "openvino", FP32, reason="not here")], images.validation, 1)


@pytest.mark.parametrize("batch", [0, 100_000])
def test_batches_that_are_none(batch: int) -> None:
    with pytest.raises(ConfigError, match="batch of 1 to 4096"):
        CompileConfig(batch=batch)
