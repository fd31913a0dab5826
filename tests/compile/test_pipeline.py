"""From a graph to a checked bundle, and what stops it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quillrt.calibration.samples import sample_hashes
from quillrt.compile import answers, pipeline, ranges
from quillrt.compile.config import PRECISIONS, CompileConfig
from quillrt.compile.macs import MULTIPLYING
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.ranges import Images, calibrate_source
from quillrt.compile.source import Source, load_source
from quillrt.runtime.backends import open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.cache import Cache
from quillrt.runtime.errors import AccuracyError, CalibrationError, ConfigError, ExportError, SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import normalize


@pytest.fixture
def source(classifier, tmp_path) -> Source:
    onnx.save(classifier, tmp_path / "model.onnx")
    return load_source(tmp_path / "model.onnx", ("a", "b", "c"))


def labelled_by(source: Source, count: int, seed: int) -> ImageSet:
    """Return noise images labelled with the graph's own answers, so that its accuracy on them is 1."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 8, 8)).astype(np.uint8)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        answers = session.run(normalize(images, source.spec.preprocessing)).argmax(axis=1)
    return ImageSet(images, answers.astype(np.int64), ("a", "b", "c"), source.spec.preprocessing)


@pytest.fixture
def images(source) -> Images:
    training = labelled_by(
        source, 200, 1
    )  # nearly all of one class, which may not be: labels only deal the samples out
    return Images("noise", replace(training, labels=np.arange(200) % 3), labelled_by(source, 300, 2))


def test_a_bundle_holds_what_was_asked_for(source, images, tmp_path) -> None:
    bundle, verdicts, _, _ = compile_bundle(source, images, CompileConfig(samples=50), tmp_path / "model.quill")
    assert bundle == Bundle.open(tmp_path / "model.quill")
    assert {e.path for e in bundle.entries} == {
        "model.fp32.onnx",
        "model.fp16.onnx",
        "model.int8.cpu.onnx",
        "model.int8.tensorrt.onnx",
        "calibration.json",
        "report.json",
    }
    for entry in bundle.entries:
        if entry.kind == "onnx":
            onnx.checker.check_model(onnx.load_from_string(bundle.read(entry)), full_check=True)
    reference = next(v for v in verdicts if v.path == "model.fp32.onnx" and v.backend == "onnxruntime-cpu")
    assert (reference.accuracy, reference.agreement, reference.n) == (1.0, 1.0, 300)
    int8 = next(v for v in verdicts if v.precision is Precision.INT8 and v.n)
    assert 0.9 < int8.agreement <= 1
    report = json.loads(bundle.files["report.json"])
    assert [n["quantized"] for n in report["nodes"]["model.int8.tensorrt.onnx"]] == [True, True]


def test_nothing_left_for_int8_is_refused(source, images, tmp_path) -> None:
    nodes = tuple(node.name for node in source.graph.graph.node if node.op_type in MULTIPLYING)
    with pytest.raises(ConfigError, match="expected a node that int8 computes, found all of them excluded"):
        compile_bundle(source, images, CompileConfig(samples=50, excluded=nodes), tmp_path / "model.quill")
    assert not (tmp_path / "model.quill").exists()


def test_litert_models_are_files_of_the_bundle_and_judged_like_others(source, images, tmp_path) -> None:
    pytest.importorskip("ai_edge_litert")
    config = CompileConfig((Precision.FP32, Precision.INT8), ("litert",), samples=50)
    bundle, verdicts, _, _ = compile_bundle(source, images, config, tmp_path / "model.quill")
    entries = {entry.path: entry for entry in bundle.entries}
    int8 = entries["model.int8.litert.tflite"]
    conv, gemm = 6 * 6 * 4 * 9, 36 * 3
    assert int8.built_for == {"products": {"int8": 1, "fp32": 1}, "macs": {"int8": conv, "fp32": gemm}}
    assert int8.calibration == entries["model.int8.tensorrt.onnx"].calibration
    judged = {verdict.path: verdict for verdict in verdicts if verdict.backend == "litert"}
    assert (judged["model.fp32.litert.tflite"].agreement, judged["model.fp32.litert.tflite"].n) == (1.0, 300)
    assert 0.9 < judged["model.int8.litert.tflite"].agreement <= 1
    assert "model.int8.cpu.onnx" not in entries


def test_auto_does_without_litert_where_it_must_and_says_so(images, classifier, tmp_path) -> None:
    classifier.graph.node[1].op_type = "LeakyRelu"
    onnx.save(classifier, tmp_path / "leaky.onnx")
    leaky = load_source(tmp_path / "leaky.onnx", ("a", "b", "c"))
    config = CompileConfig((Precision.FP32,), ("onnxruntime-cpu", "litert"))
    with pytest.raises(ExportError, match="found LeakyRelu at node LeakyRelu; leave the target litert out"):
        compile_bundle(leaky, images, config, tmp_path / "a.quill")
    images = replace(images, validation=labelled_by(leaky, 100, 2))
    choice = compile_bundle(leaky, images, replace(config, auto=True), tmp_path / "a.quill").choice
    assert choice is not None
    assert "found LeakyRelu at node LeakyRelu" in choice.note
    assert {timing.backend for timing in choice.timings} <= {"onnxruntime-cpu", "openvino"}


def test_only_the_precisions_asked_for(source, images, tmp_path) -> None:
    config = CompileConfig(precisions=(Precision.FP16,))
    bundle, _, _, _ = compile_bundle(source, images, config, tmp_path / "model.quill")
    assert {e.precision for e in bundle.entries if e.kind == "onnx"} == {Precision.FP32, Precision.FP16}
    assert not any(e.kind == "calibration" for e in bundle.entries)


def test_an_interrupted_compiling_goes_on_where_it_was(source, images, tmp_path, monkeypatch) -> None:
    def stop(*_, **__):
        raise KeyboardInterrupt

    config, cache = CompileConfig(samples=50, max_drop=100), Cache(tmp_path / "cache")
    expected = compile_bundle(source, images, config, tmp_path / "plain.quill").bundle
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "verify", stop)
        with pytest.raises(KeyboardInterrupt):
            compile_bundle(source, images, config, tmp_path / "out" / "model.quill", cache=cache)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(ranges, "collect", stop)
    monkeypatch.setattr(answers, "open_session", stop)
    again = compile_bundle(source, images, config, tmp_path / "model.quill", cache=cache).bundle
    typed = [entry.path for entry in expected.entries if entry.kind in ("onnx", "calibration")]
    assert [again.files[path] for path in typed] == [expected.files[path] for path in typed]


def test_calibration_draws_from_training_only(source, images) -> None:
    table = calibrate_source(source, images, CompileConfig(samples=100))
    assert set(table.samples) <= set(sample_hashes(images.training))
    assert not set(table.samples) & set(sample_hashes(images.validation))


def test_a_table_of_another_model_is_refused_and_nothing_written(source, images, tmp_path) -> None:
    table = replace(calibrate_source(source, images, CompileConfig(samples=50)), model_sha256="0" * 64)
    with pytest.raises(CalibrationError, match="table of this model"):
        compile_bundle(source, images, CompileConfig(), tmp_path / "out" / "model.quill", table)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_int8_ruins_is_refused_and_nothing_written(source, images, tmp_path) -> None:
    table = calibrate_source(source, images, CompileConfig(samples=50))
    ruined = replace(table, ranges=dict.fromkeys(table.ranges, (0.0, 0.001)))
    with pytest.raises(AccuracyError, match=r"model\.int8\.cpu\.onnx on onnxruntime-cpu: it loses"):
        compile_bundle(source, images, CompileConfig(), tmp_path / "out" / "model.quill", ruined)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_answers_otherwise_than_fp32_is_found(source, images, tmp_path, monkeypatch) -> None:
    def broken(model: onnx.ModelProto) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.array([9, 0, 0], np.float32), "fc.bias"))
        return copy

    monkeypatch.setattr("quillrt.compile.graphs.to_fp16", broken)
    with pytest.raises(AccuracyError, match=r"model\.fp16\.onnx"):
        compile_bundle(source, images, CompileConfig(precisions=(Precision.FP16,)), tmp_path / "model.quill")
    assert not (tmp_path / "model.quill").exists()


def test_other_classes_are_refused(source, images, tmp_path) -> None:
    other = replace(images.validation, classes=("x", "y", "z"))
    with pytest.raises(SpecError, match="expected a data set with the model's 3 classes"):
        compile_bundle(source, replace(images, validation=other), CompileConfig(), tmp_path / "model.quill")


def test_unknown_targets_and_precisions() -> None:
    with pytest.raises(ConfigError, match=r"expected a target out of .*, found tpu"):
        CompileConfig(targets=("tpu",))
    with pytest.raises(
        ConfigError,
        match=r"out of .*, found tf32; engines in tf32 are --precision fp32 --tf32$",
    ):
        CompileConfig(precisions=(Precision.TF32,))


@pytest.mark.tensorrt
def test_real_engines_are_built_in_the_precision_asked_for(source, images, tmp_path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx")
    config = CompileConfig(PRECISIONS, ("tensorrt-rtx",), samples=50)
    bundle, _, _, _ = compile_bundle(source, images, config, tmp_path / "model.quill")
    engines = {e.precision: e for e in bundle.entries if e.kind == "engine"}
    assert set(engines) == set(PRECISIONS)
    for precision, entry in engines.items():
        kind = "int8" if precision is Precision.MIXED else precision.value
        assert kind in entry.built_for["products"]
        # FP8 came with Ada Lovelace, 8.9.
        assert ("8.6" in entry.built_for["compute_capabilities"]) == (precision is not Precision.FP8)
        assert "8.9" in entry.built_for["compute_capabilities"]
        assert entry.built_for["seconds"] > 0
        assert entry.size > 1000
