"""Collected ranges against numpy on the same activations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quillrt.calibration.collect import calibrate
from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, normalize
from quillrt.runtime.spec import ModelSpec, TensorSpec, character_spec

SPEC = character_spec(("a", "b"), Preprocessing(height=4, width=4, mean=0.25, std=0.5))


@pytest.fixture
def product() -> onnx.ModelProto:
    """Flatten, then a product with known weights: activations are easy to compute beside it."""
    weight = np.linspace(-1, 1, 32, dtype=np.float32).reshape(16, 2)
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])]
    flat = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["batch", 16])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")], value_info=[flat])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def samples() -> ImageSet:
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal(90, 40, (100, 4, 4)), 0, 255).astype(np.uint8)
    return ImageSet(images, rng.integers(0, 2, 100), ("a", "b"), SPEC.preprocessing)


def test_minmax_is_numpys(product, samples) -> None:
    table = calibrate(product, SPEC, samples, "made", "minmax")
    flat = normalize(samples.images, SPEC.preprocessing).reshape(100, 16)
    assert table.ranges["flat"] == pytest.approx((flat.min(), flat.max()))
    weight = numpy_helper.to_array(product.graph.initializer[0])
    assert table.ranges["logits"] == pytest.approx(((flat @ weight).min(), (flat @ weight).max()), rel=1e-5)


def test_images_as_they_came_are_fitted_first(product) -> None:
    paper = np.full((4, 9, 9), 180, np.uint8)
    paper[:, 2:7, 4:6] = 80
    raw = ImageSet(paper, np.zeros(4, np.int64), ("a", "b"))
    recipe = replace(SPEC.preprocessing, denoise=("levels",))
    table = calibrate(product, replace(SPEC, preprocessing=recipe), raw, "made", "minmax")
    assert table.ranges["flat"] == pytest.approx(
        (-0.5, 1.5)
    )  # (0 - mean) / std for the paper, (1 - mean) / std for ink
    assert table.preprocessing == recipe


def test_percentile_keeps_that_share_of_the_values(product, samples) -> None:
    table = calibrate(product, SPEC, samples, "made", "percentile", 95.0)
    flat = normalize(samples.images, SPEC.preprocessing).reshape(-1)
    low, high = table.ranges["flat"]
    kept = ((flat >= low) & (flat <= high)).mean()
    assert kept == pytest.approx(0.95, abs=0.02)


def test_entropy_cuts_a_far_outlier(product, samples) -> None:
    images = np.full((200, 4, 4), 64, np.uint8) + np.random.default_rng(0).integers(0, 30, (200, 4, 4)).astype(np.uint8)
    images[0, 0, 0] = 255  # one pixel of 3200
    crowd = ImageSet(images, np.zeros(200, np.int64), ("a", "b"), SPEC.preprocessing)
    everything = calibrate(product, SPEC, crowd, "made", "minmax").ranges["flat"]
    entropy = calibrate(product, SPEC, crowd, "made", "entropy").ranges["flat"]
    assert entropy[1] < 0.7 * everything[1]


def test_the_table_says_what_it_depends_on(product, samples) -> None:
    table = calibrate(product, SPEC, samples, "made", "minmax")
    assert len(table.samples) == 100
    assert table.preprocessing == SPEC.preprocessing
    assert table.dataset == "made"
    assert "onnxruntime" in table.tools


def test_nothing_is_printed(product, samples, capsys) -> None:
    calibrate(product, SPEC, samples, "made", "percentile")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("method", "percentile"), [("guess", 99.0), ("percentile", 40.0), ("percentile", 100.5)])
def test_bad_settings(product, samples, method: str, percentile: float) -> None:
    with pytest.raises(CalibrationError, match="expected a"):
        calibrate(product, SPEC, samples, "made", method, percentile)


def test_three_channel_specs_are_fed_three_channels(samples) -> None:
    image = TensorSpec("image", "float32", (None, 3, 4, 4))
    spec = ModelSpec((image,), SPEC.outputs, SPEC.labels, SPEC.preprocessing)
    weight = np.ones((48, 2), np.float32)
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    table = calibrate(model, spec, samples, "made", "minmax")
    sums = 3 * normalize(samples.images, SPEC.preprocessing).reshape(100, 16).sum(axis=1)
    assert table.ranges["logits"] == pytest.approx((sums.min(), sums.max()), rel=1e-5)
