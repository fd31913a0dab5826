"""What the demo makes of the verbs' answers; the whole of it runs in CI as `make demo`."""

import pytest

from quillrt.cli.demo import _agreement, _engines, _fastest, _judge
from quillrt.runtime.errors import AccuracyError


@pytest.mark.parametrize(("accuracy", "right"), [(0.974, 20), (1.0, 17)])
def test_a_network_that_did_not_learn_or_read_fails(accuracy, right):
    with pytest.raises(AccuracyError, match=r"expected at least 97\.5 %"):
        _judge(accuracy, right)


def test_a_good_one_passes():
    _judge(0.975, 18)


def test_what_cannot_run_is_named():
    ran = {"backend": "onnxruntime-cpu", "n": 359, "drop": 0.28}
    worse = {"backend": "openvino", "n": 359, "drop": -0.5}
    waiting = {"backend": "tensorrt-rtx", "n": 0, "drop": 0.0}
    text = _agreement([ran, worse, waiting])
    assert "2 files agree, largest drop +0.28 points (n = 359)" in text
    assert text.endswith("not run here: tensorrt-rtx")


def test_a_bundle_without_engines_says_why():
    graph = {"path": "model.fp32.onnx", "kind": "onnx", "precision": "fp32"}
    engine = {"path": "model.fp32.tensorrt-rtx.engine", "kind": "engine", "precision": "fp32"}
    table = {"path": "calibration.json", "kind": "calibration", "precision": None}
    assert _engines({"entries": [graph, table]}) == "1 ONNX graphs, engines: none, no TensorRT builder works here"
    assert _engines({"entries": [graph, engine]}).endswith("engines: model.fp32.tensorrt-rtx.engine")


def test_the_fastest_row_of_each_batch_is_shown_and_the_missing_are_counted():
    def row(backend, batch, ms, speedup, verdict=""):
        measured = None if ms is None else {"median_ms": ms}
        ratios = {name: {"ratio": ratio} for name, ratio in speedup.items()}
        facts = {"backend": backend, "precision": "fp32", "batch": batch, "measured": measured, "speedup": ratios}
        return {**facts, "verdict": verdict}

    rows = [row("eager", 1, 2.0, {}), row("openvino", 1, 0.5, {"eager": 4.0}), row("tensorrt", 1, None, {})]
    wrong = row("litert", 1, 0.1, {"eager": 20.0}, "wrong")
    found = _fastest({"rows": [*rows, wrong]})
    assert found == "batch 1: openvino fp32 0.5 ms, 4.0 × eager; 1 row could not run here"
