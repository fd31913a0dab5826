import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quillrt.benchmarks import gpu_check
from quillrt.benchmarks.contestants import torch_contestants
from quillrt.benchmarks.gpu_check import Check, Step, Verdict, judge, run_check, self_test_lacks
from quillrt.benchmarks.gpu_steps import Steps
from quillrt.benchmarks.running import Settings, compare, measure
from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.device import describe_device
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.precision import Precision

NO_GPU = describe_device().gpu_reason


@pytest.fixture
def row(contestant, images, tmp_path):
    (row,) = measure([contestant], images, Settings(batches=(1,), seconds=0.02, rounds=2), tmp_path / "log.txt")
    return row


def with_logits(row, logits, reference, name="eager fp32"):
    return replace(row, measured=replace(row.measured, agreement=compare(logits, reference, name)))


def test_rounding_passes_and_tf32_and_constant_answers_do_not(row):
    reference = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    cases = {
        "another order of sums": reference * np.float32(1 + 1e-6),
        "tf32": reference * np.float32(1 + 2**-10),
        "constant": np.broadcast_to(reference.mean(axis=0), reference.shape),
    }
    verdicts = judge([with_logits(row, logits, reference) for logits in cases.values()])
    assert [verdict.passed for verdict in verdicts] == [True, False, False]
    (int8,) = judge([replace(with_logits(row, cases["tf32"], reference), precision="int8")])
    assert int8.passed


def test_without_pytorch_as_reference_there_is_no_verdict(row):
    reference = np.eye(3, dtype=np.float32)
    assert judge([with_logits(row, reference, reference, "onnxruntime-cpu fp32")]) == []


def test_the_reference_is_not_judged_by_itself(row):
    reference = np.eye(3, dtype=np.float32)
    eager = replace(with_logits(row, reference, reference), backend="eager")
    assert judge([eager]) == []
    assert [v.name for v in judge([eager, with_logits(row, reference, reference)])] == ["onnxruntime-cpu fp32"]


def test_every_precision_has_its_tolerance():
    assert set(TOLERANCES) == set(Precision)


def test_a_self_test_lacks_each_step_or_row_that_failed(monkeypatch):
    formats, batches = ("fp32", "fp16", "int8"), (1, 64)
    parity = [Verdict(f"onnxruntime-cpu {p}", batch, 0.0, 0.1) for p in formats for batch in batches]
    built = [Step(f"tensorrt-rtx {p} engine", 1.0) for p in formats]
    steps = [*built, Step("tensorrt fp32 engine", 1.0, reason="no GPU")]

    monkeypatch.setattr(gpu_check, "find_spec", lambda name: name == "tensorrt_rtx")
    assert self_test_lacks(parity, steps, batches) == []
    assert self_test_lacks(parity[1:], steps, batches) == ["onnxruntime-cpu fp32, batch 1"]
    refused = [*steps[1:], replace(built[0], reason="refused")]
    assert self_test_lacks(parity, refused, batches) == ["tensorrt-rtx fp32 engine"]
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None)
    assert self_test_lacks(parity, refused, batches) == []


@pytest.mark.slow
def test_the_self_test_fails_where_no_graph_can_be_made(tmp_path, monkeypatch):
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('no onnx here', name='onnx')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")  # of the steps
    # Eager ran, and agrees with itself; the rest of PyTorch has nothing to do with it and takes its time.
    monkeypatch.setattr(gpu_check, "torch_contestants", lambda *given: torch_contestants(*given)[:1])
    folder = tmp_path / "out"
    folder.mkdir()
    assert not run_check(folder, Settings(batches=(1,), seconds=0.02, rounds=1), self_test=True)
    found = json.loads((folder / "result.json").read_text())
    assert found["rows"][0]["measured"] is not None
    assert {f"onnxruntime-cpu {p}, batch 1" for p in ("fp32", "fp16", "int8")} <= set(found["check"]["lacking"])
    assert "lacking, so the self-test fails: onnxruntime-cpu int8, batch 1" in (folder / "result.md").read_text()


def test_a_step_that_cannot_be_done_has_its_reason_and_the_next_one_runs(tmp_path):
    check = Check(tmp_path / "log.txt")
    assert check.step("nonsense", "no_such_step") is None
    name, images = check.step("images", "images")
    assert (name, images.images.shape[1:]) == ("digits test", (28, 28))
    assert "no_such_step" in check.steps[0].reason
    assert check.steps[1].facts == {"source": "digits test", "images": len(images)}


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
@pytest.mark.parametrize("driver", ["pycuda", "cuda-python"])
def test_copies_without_a_gpu_say_why(driver):
    with pytest.raises(BackendUnavailable, match=driver):
        Steps().copies(driver)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))
@pytest.mark.parametrize("driver", ["pycuda", "cuda-python"])
def test_copies_on_a_gpu_are_faster_for_more_bytes(driver):
    _, copies = Steps().copies(driver)
    assert copies[0]["h2d_gb_per_s"] < copies[-1]["h2d_gb_per_s"]


def test_the_script_works_from_a_plain_checkout(tmp_path):
    """It must find the package by itself: here it only has to print its help, the self-test is a run of its own."""
    script = Path(gpu_check.__file__).resolve().with_name("gpu_check.sh")
    if not script.exists():  # an installed package has no scripts beside it
        script = Path(__file__).parents[2] / "benchmarks" / "gpu_check.sh"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHON": sys.executable}
    done = subprocess.run([script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "--self-test" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_report_marks_what_is_wrong(row):
    from quillrt.benchmarks.environment import describe
    from quillrt.benchmarks.results import Result

    reference = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    rows = [with_logits(row, reference, reference), with_logits(row, -reference, reference)]
    result = Result({"threads": 1, "images": 5, "source": "noise", "rounds": 2, "seconds": 1}, describe(), tuple(rows))
    text = gpu_check._markdown(result, [gpu_check.Step("images", 1.0, reason="no images")], judge(rows))
    assert [line.split("|")[-2].strip() for line in text.splitlines() if "| 0.0001 |" in line] == ["ok", "WRONG"]
    assert "no images" in text
    json.dumps(result.to_json(), allow_nan=False)
