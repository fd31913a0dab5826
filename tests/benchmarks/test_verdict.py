"""The check of `--precision auto`: its loops run the model they are given, and its arithmetic holds."""

import re

import numpy as np
import onnx
import pytest

from quillrt.benchmarks.verdict import LOOPS, Raced, loops, main
from quillrt.compile.litert import to_litert
from quillrt.runtime.backends import ONNX_ON_CPU
from quillrt.runtime.bundle import Bundle


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_computes_the_models_answers(backend, quadrants, images):
    model = quadrants.onnx
    if backend == "litert":
        model, _ = to_litert(onnx.load_from_string(model))
    found = LOOPS[backend](model, images)()[0]
    np.testing.assert_allclose(found, quadrants.logits(images), rtol=1e-4, atol=1e-5)


def test_times_each_file_by_each_library(quadrants_bundle, images):
    found = loops(Bundle.open(quadrants_bundle), images, seconds=0.01)
    assert found.keys() == {("model.fp32.onnx", backend) for backend in ONNX_ON_CPU}
    assert list(found.values()) == sorted(found.values())
    assert min(found.values()) > 0


def test_excess_by_hand():
    times = {("a", "x"): 100.0, ("b", "x"): 106.0}
    assert Raced(("b", "x"), times).excess == pytest.approx(0.06)
    assert Raced(("a", "x"), times).excess == 0


@pytest.mark.slow
def test_prints_a_line_for_each_batch(script, stand_in):
    done = script(
        main,
        stand_in / "small.safetensors",
        "--runs",
        1,
        "--seconds",
        0.01,
        "--batch",
        2,
        "--target",
        "onnxruntime-cpu",
    )
    assert done.exit_code == 0, done.output
    picked = re.search(r"small\.safetensors, batch 2, run 1: picked (.*?), (-?[\d.]+)% over the fastest", done.stdout)
    assert picked is not None
    assert float(picked[2]) >= 0
    assert f"{picked[1]} " in done.stdout.split("µs a query: ")[1]
