"""Sensitivity on a network with one node made hard to quantize, and against logits worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quillrt.calibration.collect import calibrate
from quillrt.calibration.table import CalibrationTable
from quillrt.compile.answers import Answers
from quillrt.compile.quantize import CPU
from quillrt.compile.sensitivity import analyse, compared, plot_sensitivity
from quillrt.compile.source import Source, load_source
from quillrt.runtime.backends import open_session
from quillrt.runtime.errors import CalibrationError, ExportError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.predict import run_images


@pytest.fixture
def source(classifier, tmp_path) -> Source:
    path = tmp_path / "model.onnx"
    onnx.save(classifier, path)
    return load_source(path, ("a", "b", "c"))


@pytest.fixture
def images(source) -> ImageSet:
    noise = np.random.default_rng(0).integers(0, 256, (120, 8, 8)).astype(np.uint8)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        labels = run_images(session, noise).argmax(axis=1).astype(np.int64)
    return ImageSet(noise, labels, ("a", "b", "c"), source.spec.preprocessing)


@pytest.fixture
def table(source, images) -> CalibrationTable:
    return calibrate(source.graph, source.spec, images, "noise")


@pytest.fixture
def answers(source, images):
    return Answers(source.graph, source.spec, images)


def test_effect_by_hand() -> None:
    """Two of four answers change, one of them for the better; the difference is 0.5 in one of eight logits."""
    reference = np.array([[2, 1], [1, 2], [2, 1], [2, 1]], np.float32)
    logits = np.array([[2, 1], [2, 1], [1, 2], [2, 0.5]], np.float32)
    effect = compared(reference, logits, np.array([0, 1, 0, 0]))
    assert effect.drop == 50
    assert effect.error == pytest.approx(np.sqrt((1 + 1 + 1 + 1 + 0.25) / (4 * 5)))


def test_a_node_with_a_far_too_wide_range_comes_first(source, answers, table) -> None:
    wide = {**table.ranges, "Reshape": (0.0, 1000 * table.ranges["Reshape"][1])}
    found = analyse(source, replace(table, ranges=wide), CPU, answers)
    assert [each.node for each in found.nodes] == ["Gemm", "Conv"]
    gemm, conv = found.nodes
    assert gemm.alone.error > 10 * conv.alone.error
    assert gemm.without.error < 0.1 * found.whole.error
    assert conv.without.error == gemm.alone.error  # two nodes: all but one is the other alone
    assert (found.accuracy, found.n) == (1, 120)


def test_a_table_of_another_model_is_refused(source, answers, table) -> None:
    source.graph.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "conv.weight")
    )
    with pytest.raises(CalibrationError, match="table of this model"):
        analyse(source, table, CPU, answers)


def test_nothing_to_quantize(source, answers, table) -> None:
    for tensor in source.graph.graph.initializer:
        if tensor.name.endswith("weight"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    with pytest.raises(ExportError, match="none"):
        analyse(source, replace(table, model_sha256=source.sha256), CPU, answers)


def test_the_picture_is_one(source, answers, table, tmp_path) -> None:
    plot_sensitivity(tmp_path / "bars.png", analyse(source, table, CPU, answers), "a title\nof two lines")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
