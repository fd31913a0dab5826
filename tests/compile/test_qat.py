"""Quantization-aware training through to the bundle: INT8 computes what was trained, and what INT8 ruined is mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from quillrt.calibration.methods import Method
from quillrt.compile.config import CompileConfig
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.qat import input_steps
from quillrt.compile.ranges import Images, calibrate_source
from quillrt.compile.source import load_source
from quillrt.runtime.errors import AccuracyError
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.train.checkpoint import Checkpoint, save_checkpoint
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits, load_dataset
from quillrt.train.finetuning import finetune
from quillrt.train.quantization import Steps, make_aware
from quillrt.train.training import train_new

INT8 = CompileConfig(precisions=(Precision.INT8,), samples=200)
OUTLIER = 400  # times the other channels


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = load_dataset("digits")
    return replace(splits, preprocessing=replace(splits.preprocessing, height=8, width=8, fit="resize"))


@pytest.fixture(scope="module")
def images(digits) -> Images:
    return Images("digits", digits.train, digits.validation)


def logits(checkpoint: Checkpoint, digits: Splits, *, aware: bool) -> np.ndarray:
    module, recipe = checkpoint.module(), digits.preprocessing
    if aware:
        make_aware(module, {name: Steps(**each) for name, each in checkpoint.training["qat"].items()})
    batch = normalize(fit_images(digits.validation, recipe), recipe, 1)
    with torch.no_grad():
        return module(torch.from_numpy(batch)).numpy()


def compiled(checkpoint: Checkpoint, images: Images, folder: Path):
    save_checkpoint(folder / "m.safetensors", checkpoint)
    return compile_bundle(load_source(folder / "m.safetensors"), images, INT8, folder / "m.quill").bundle


@pytest.mark.parametrize(
    ("model", "target", "file"),
    [("cnn", "openvino", "model.int8.openvino.onnx"), ("quillnet", "tensorrt", "model.int8.tensorrt.onnx")],
)
def test_int8_answers_as_the_network_did_in_training(model, target, file, digits, images, tmp_path) -> None:
    start = train_new(model, digits, TrainConfig(epochs=3, lr=4e-3, device="cpu"))
    steps = input_steps(start, digits.train, Method("mse"), target)
    tuned = finetune(start, digits, TrainConfig(epochs=1, lr=1e-4, device="cpu"), qat=steps)
    bundle = compiled(tuned, images, tmp_path)
    recipe, options = digits.preprocessing, onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it rounds biases, too
    session = onnxruntime.InferenceSession(bundle.files[file], options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": normalize(fit_images(digits.validation, recipe), recipe, 1)})
    expected, plain = (logits(tuned, digits, aware=aware) for aware in (True, False))
    # Sums that differ in their last bit may round to the other step now and then; FP32 is far.
    assert np.abs(found - expected).mean() < 0.1 * np.abs(plain - expected).mean()
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.99


def test_the_table_has_the_ranges_that_were_trained(digits, images, tmp_path) -> None:
    start = train_new("cnn", digits, TrainConfig(epochs=1, device="cpu"))
    steps = {"conv1": Steps(-0.5, 0.75, "uint8"), "fc1": Steps(0.0, 1.5, "uint8")}
    save_checkpoint(tmp_path / "m.safetensors", finetune(start, digits, TrainConfig(epochs=1, device="cpu"), qat=steps))
    table = calibrate_source(load_source(tmp_path / "m.safetensors"), images, INT8)
    assert table.trained == ("flatten", "image")
    assert (table.ranges["image"], table.ranges["flatten"]) == ((-0.5, 0.75), (0.0, 1.5))
    assert table.ranges["relu1"] == (table.observed["relu1"].lowest, table.observed["relu1"].highest)
    assert table.origin == "minmax on 200 images of digits, 2 ranges as trained"
    table.save(tmp_path / "t.json")
    assert type(table).load(tmp_path / "t.json") == table


def test_what_calibration_cannot_save_training_does(digits, images, tmp_path) -> None:
    """An activation of one channel far above the others, as in test_search: INT8 leaves the others a step or two."""
    trained = train_new("cnn", digits, TrainConfig(epochs=6, lr=4e-3, device="cpu"))
    weights = {name: tensor.clone() for name, tensor in trained.weights.items()}
    weights["conv1.weight"][0] = weights["conv1.weight"][0].abs() * OUTLIER
    weights["conv1.bias"][0] *= OUTLIER
    weights["conv2.weight"][:, 0] /= OUTLIER
    broken = replace(trained, weights=weights)
    before = (logits(broken, digits, aware=False).argmax(1) == digits.validation.labels).mean()
    with pytest.raises(AccuracyError, match=r"it loses [2-9]\d\.\d\d points"):
        compiled(broken, images, tmp_path)
    steps = input_steps(broken, digits.train, Method("percentile", 99.0), "onnxruntime-cpu")
    tuned = finetune(broken, digits, TrainConfig(epochs=20, lr=3e-4, clip_norm=1.0, device="cpu"), qat=steps)
    entry = next(e for e in compiled(tuned, images, tmp_path).entries if e.path == "model.int8.cpu.onnx")
    assert entry.measured["onnxruntime-cpu"]["accuracy"] > before - 0.01
