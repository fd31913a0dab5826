"""Collected ranges against numpy on the same activations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quillrt.calibration.collect import calibrate, collect
from quillrt.calibration.methods import Method
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
    table = calibrate(product, SPEC, samples, "made")
    flat = normalize(samples.images, SPEC.preprocessing).reshape(100, 16)
    assert table.ranges["flat"] == pytest.approx((flat.min(), flat.max()))
    weight = numpy_helper.to_array(product.graph.initializer[0])
    assert table.ranges["logits"] == pytest.approx(((flat @ weight).min(), (flat @ weight).max()), rel=1e-5)


def test_images_as_they_came_are_fitted_first(product) -> None:
    paper = np.full((4, 9, 9), 180, np.uint8)
    paper[:, 2:7, 4:6] = 80
    raw = ImageSet(paper, np.zeros(4, np.int64), ("a", "b"))
    recipe = replace(SPEC.preprocessing, denoise=("levels",))
    table = calibrate(product, replace(SPEC, preprocessing=recipe), raw, "made")
    assert table.ranges["flat"] == pytest.approx(
        (-0.5, 1.5)
    )  # (0 - mean) / std for the paper, (1 - mean) / std for ink
    assert table.preprocessing == recipe


def test_percentile_keeps_that_share_of_the_values(product, samples) -> None:
    table = calibrate(product, SPEC, samples, "made", Method("percentile", 95.0))
    flat = normalize(samples.images, SPEC.preprocessing).reshape(-1)
    low, high = table.ranges["flat"]
    kept = ((flat >= low) & (flat <= high)).mean()
    assert kept == pytest.approx(0.95, abs=0.02)


def test_entropy_cuts_a_far_outlier(product, samples) -> None:
    images = np.full((200, 4, 4), 64, np.uint8) + np.random.default_rng(0).integers(0, 30, (200, 4, 4)).astype(np.uint8)
    images[0, 0, 0] = 255  # one pixel of 3200
    crowd = ImageSet(images, np.zeros(200, np.int64), ("a", "b"), SPEC.preprocessing)
    everything = calibrate(product, SPEC, crowd, "made").ranges["flat"]
    entropy = calibrate(product, SPEC, crowd, "made", Method("entropy")).ranges["flat"]
    assert entropy[1] < 0.7 * everything[1]


def test_the_table_says_what_it_depends_on(product, samples) -> None:
    table = calibrate(product, SPEC, samples, "made")
    assert len(table.samples) == 100
    assert table.preprocessing == SPEC.preprocessing
    assert table.dataset == "made"
    assert "onnxruntime" in table.tools


def test_nothing_is_printed(product, samples, capsys) -> None:
    calibrate(product, SPEC, samples, "made", Method("percentile"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("method", "percentile"), [("guess", 99.0), ("percentile", 40.0), ("percentile", 100.5)])
def test_bad_settings(method: str, percentile: float) -> None:
    with pytest.raises(CalibrationError, match="expected a"):
        Method(method, percentile)


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
    table = calibrate(model, spec, samples, "made")
    sums = 3 * normalize(samples.images, SPEC.preprocessing).reshape(100, 16).sum(axis=1)
    assert table.ranges["logits"] == pytest.approx((sums.min(), sums.max()), rel=1e-5)


def test_weights_that_are_no_numbers_are_told_with_their_tensor(product, samples) -> None:
    weight = np.full((16, 2), np.nan, np.float32)
    product.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    with pytest.raises(CalibrationError, match="finite values, found nan to nan in logits for images 0 to 31; check"):
        collect(product, SPEC, samples)


def test_a_graph_without_products(samples) -> None:
    node = helper.make_node("Flatten", ["image"], ["logits"])
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 16])]
    with pytest.raises(CalibrationError, match="found none to calibrate"):
        collect(helper.make_model(helper.make_graph([node], "g", inputs, outputs)), SPEC, samples)


def test_what_was_seen_is_in_the_table(product, samples) -> None:
    table = calibrate(product, SPEC, samples, "made", Method("percentile", 90.0))
    flat = normalize(samples.images, SPEC.preprocessing)
    seen = table.observed["flat"]
    assert (seen.lowest, seen.highest) == (flat.min(), flat.max())
    assert sum(seen.counts) == flat.size
    assert seen.lowest < table.ranges["flat"][0] < table.ranges["flat"][1] < seen.highest
    assert table.origin == "percentile 90 on 100 images of made"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """The largest resident size of a process that calibrates the source's network on 100 and on 10,000 images."""
    script = """
import resource, sys
import numpy as np
from quillrt.calibration.collect import calibrate
from quillrt.compile.export import export_checkpoint
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint
from quillrt.train.models import build_model
spec = character_spec(tuple("0123456789"), Preprocessing())
module = build_model("cnn", 10)
checkpoint = Checkpoint("cnn", spec, module.state_dict(), {})
n = int(sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (n, 28, 28), np.uint8)
noise = ImageSet(images, np.arange(n) % 10, spec.labels, spec.preprocessing)
calibrate(export_checkpoint(checkpoint), spec, noise, "noise")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    few, many = (
        int(subprocess.run([sys.executable, "-c", script, n], check=True, capture_output=True).stdout)
        for n in ("100", "10000")
    )
    assert many < 1.1 * few
