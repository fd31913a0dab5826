"""The benchmark of calibration methods: its points are those of the bundles that `compile` makes."""

import re

import pytest

from quillrt.benchmarks.calibration_methods import main
from quillrt.calibration.methods import Method
from quillrt.compile.config import CompileConfig
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.ranges import Images
from quillrt.compile.search import METHODS
from quillrt.compile.source import load_source
from quillrt.runtime.backends import open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.precision import Precision
from quillrt.train.datasets import load_dataset
from quillrt.train.evaluation import evaluate


@pytest.fixture
def printed(script, stand_in):
    result = script(main, stand_in / "small.safetensors", "--samples", 16)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_points_are_those_of_the_bundles(printed, stand_in, tmp_path):
    splits = load_dataset("digits")
    config = CompileConfig(precisions=(Precision.INT8,), samples=16, method=Method("percentile", 99.0))
    images = Images("digits", splits.train, splits.validation)
    source = load_source(stand_in / "small.safetensors")
    compile_bundle(source, images, config, tmp_path / "a.quill")
    files, accuracy = Bundle.open(tmp_path / "a.quill").files, {}
    for name in {"model.fp32.onnx", "model.int8.cpu.onnx", "model.int8.openvino.onnx"} & files.keys():
        with open_session("onnxruntime-cpu", files[name], source.spec) as session:
            accuracy[name] = evaluate(session, splits.test).accuracy
    lost = 100 * (accuracy["model.fp32.onnx"] - min(accuracy[name] for name in accuracy if "int8" in name))
    row = next(line for line in printed.splitlines() if "| percentile 99 |" in line)
    assert f"{accuracy['model.fp32.onnx']:.2%}, n = {len(splits.test)}" in row
    assert f"| {lost:+.2f} (p" in row


def test_every_method_has_a_row_with_both_targets(printed):
    rows = re.findall(
        r"^\| small\.safetensors, .* \| (.*?) \| ([+-]\d+\.\d\d) \(p = \S+\) \| ([+-]\d+\.\d\d)", printed, re.M
    )
    assert [method for method, *_ in rows] == [str(method) for method in METHODS]
    assert "16 training images" in printed
