import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from quillrt.benchmarks import gpu_check, gpu_matrix, gpu_verdict
from quillrt.benchmarks.agreement import compare
from quillrt.benchmarks.contestants import Contestant, torch_contestants
from quillrt.benchmarks.deadline import LATE
from quillrt.benchmarks.environment import describe
from quillrt.benchmarks.gpu_check import Check, run_check
from quillrt.benchmarks.gpu_kernel import PTX
from quillrt.benchmarks.gpu_matrix import PRECISIONS, in_groups, matrix, processes_at_once
from quillrt.benchmarks.gpu_report import Outcome, Step, Verdict, write_outcome
from quillrt.benchmarks.gpu_steps import COPY_TIMES, Steps
from quillrt.benchmarks.gpu_verdict import gpu_lacks, judge, self_test_lacks
from quillrt.benchmarks.process import NoAnswer, Remote
from quillrt.benchmarks.results import Result, Row
from quillrt.benchmarks.rotation import plan
from quillrt.benchmarks.running import Settings, measure
from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.device import Gpu, describe_device
from quillrt.runtime.errors import BackendUnavailable, CheckpointError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.ort import CpuSession
from quillrt.runtime.ort_options import parse_options
from quillrt.runtime.precision import Precision
from quillrt.runtime.pretrained import find
from quillrt.runtime.trt_layers import LayerTime

NO_GPU = describe_device().gpu_reason
AMPERE = Gpu("an RTX 3060", "8.6", "12.6", 12 * 2**30)


@pytest.fixture
def row(contestant, images, tmp_path):
    (row,) = measure([contestant], images, Settings(batches=(1,), seconds=0.02, rounds=2), tmp_path / "log.txt")
    return row


def with_logits(row, logits, reference, name="eager fp32"):
    return replace(row, measured=replace(row.measured, agreement=compare(logits, reference, name, 0.1)))


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
    same = compare(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), "eager fp32", 0.1)
    parity = [Verdict(f"onnxruntime-cpu {p}", batch, same, 0.1) for p in formats for batch in batches]
    built = [Step(f"tensorrt-rtx {p.value} engine", 1.0) for p in PRECISIONS]
    steps = [*built, Step("tensorrt fp32 engine", 1.0, reason="no GPU")]

    monkeypatch.setattr(gpu_verdict, "find_spec", lambda name: name == "tensorrt_rtx")
    assert self_test_lacks(parity, steps, batches) == []
    assert self_test_lacks(parity[1:], steps, batches) == ["onnxruntime-cpu fp32, batch 1"]
    refused = [*steps[1:], replace(built[0], reason="refused")]
    assert self_test_lacks(parity, refused, batches) == ["tensorrt-rtx fp32 engine"]
    monkeypatch.setattr(gpu_verdict, "find_spec", lambda name: None)
    assert self_test_lacks(parity, refused, batches) == []


@pytest.mark.slow
def test_the_self_test_fails_where_no_graph_can_be_made(tmp_path, monkeypatch):
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('no onnx here', name='onnx')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")  # of the steps
    # Eager ran, and agrees with itself; the rest of PyTorch has nothing to do with it and takes its time.
    monkeypatch.setattr(gpu_matrix, "torch_contestants", lambda *given: torch_contestants(*given)[:1])
    monkeypatch.setattr(gpu_matrix, "_MODES", ())
    folder = tmp_path / "out"
    folder.mkdir()
    settings = Settings(batches=(1,), seconds=0.02, rounds=1)
    assert not run_check(folder, settings, find("digits", ".safetensors"), self_test=True)
    found = json.loads((folder / "result.json").read_text())
    assert found["rows"][0]["measured"] is not None
    assert {f"onnxruntime-cpu {p}, batch 1" for p in ("fp32", "fp16", "int8")} <= set(found["check"]["lacking"])
    assert "lacking, so the check fails: onnxruntime-cpu int8, batch 1" in (folder / "result.md").read_text()


def test_a_step_that_cannot_be_done_has_its_reason_and_the_next_one_runs(tmp_path):
    check = Check(tmp_path, Settings())
    assert check.step("nonsense", "no_such_step") is None
    name, images, training = check.step("images", "images", None)
    assert (name, images.images.shape[1:]) == ("digits test", (28, 28))
    assert not {image.tobytes() for image in images.images} & {image.tobytes() for image in training.images}
    assert "no_such_step" in check.steps[0].reason
    assert check.steps[1].facts == {"source": "digits test", "images": len(images)}


def test_a_torch_that_cannot_export_has_the_graph_of_the_bundle(tmp_path):
    checkpoint = find("digits", ".safetensors")
    (exported, _), (compiled, _) = (
        step(Steps(), checkpoint, tmp_path / name) for step, name in ((Steps.export, "a"), (Steps.compiled, "b"))
    )
    spec = Bundle.open(find("digits", ".quill")).manifest.model
    batch = np.random.default_rng(0).normal(size=(3, 1, 28, 28)).astype(np.float32)
    with CpuSession(exported.read_bytes(), spec) as a, CpuSession(compiled.read_bytes(), spec) as b:
        np.testing.assert_allclose(a.run(batch), b.run(batch), rtol=1e-4, atol=1e-4)
    other = tmp_path / "digits.safetensors"
    other.write_bytes(checkpoint.read_bytes() + b" ")
    shutil.copy(find("digits", ".quill"), other.with_suffix(".quill"))
    with pytest.raises(CheckpointError, match="compiled from"):
        Steps().compiled(other, tmp_path / "c")


def test_when_the_time_is_up_no_step_is_begun(tmp_path):
    check = Check(tmp_path, Settings(whole_s=-1.0))
    assert check.step("images", "images", None) is None
    assert check.steps[0].reason == "the time for preparing was up before its turn; give more --minutes"
    assert (tmp_path / "log.txt").read_text() == ""


def test_a_step_that_hangs_has_what_is_left_of_the_time(tmp_path, monkeypatch):
    waited = []

    def hang(self, timeout_s, name, *args):
        waited.append(timeout_s)
        raise NoAnswer(f"no answer to {name!r}")

    monkeypatch.setattr(Remote, "ask", hang)
    for whole_s in (100.0, 10_000.0):
        check = Check(tmp_path, Settings(whole_s=whole_s))
        assert check.step("fp8 graphs", "graphs") is None
    assert 60 < waited[0] <= 70
    assert waited[1] == 240
    assert check.steps[0].reason == "no answer to 'graphs'"


def test_a_check_that_is_killed_leaves_what_it_found(tmp_path, monkeypatch, contestant, images):
    """It is killed while the second group is measured."""
    measured = gpu_check.attempts_of

    def killed(group, *given):
        if group[0].backend == "openvino":
            raise KeyboardInterrupt
        return measured(group, *given)

    def found():
        told = json.loads((tmp_path / "result.json").read_text())
        return told["check"], [(row["backend"], row["measured"] is not None) for row in told["rows"]]

    monkeypatch.setattr(gpu_check, "attempts_of", killed)
    check = Check(tmp_path, Settings(batches=(1,), seconds=0.02, rounds=1))
    check.step("nonsense", "no_such_step")
    told, rows = found()
    assert ([step["name"] for step in told["steps"]], rows) == (["nonsense"], [])
    with pytest.raises(KeyboardInterrupt):
        check.measure([contestant, replace(contestant, backend="openvino")], images)
    told, rows = found()
    assert (told["passed"], rows) == (False, [("onnxruntime-cpu", True)])
    assert told["lacking"] == ["the rest: the check had not ended when this was written"]
    assert "| onnxruntime-cpu fp32 | 1 |" in (tmp_path / "result.md").read_text()


def test_each_group_has_its_part_of_the_time_and_leaves_the_rest_to_others(tmp_path, monkeypatch, contestant, images):
    """The references take 100 of 430 s, and each of the others half of what it may."""
    clock, given = [0.0], []

    def attempts(group, images, settings, log):
        given.append((group[0].backend, settings.whole_s))
        clock[0] += 100 if len(given) == 1 else settings.whole_s / 2
        return []

    monkeypatch.setattr(gpu_check, "monotonic", lambda: clock[0])
    monkeypatch.setattr(gpu_check, "processes_at_once", lambda *machine: 2)
    monkeypatch.setattr(gpu_check, "attempts_of", attempts)
    monkeypatch.setattr(gpu_check, "rows_of", lambda attempts, beside: [])
    check = Check(tmp_path, Settings(batches=(1,), whole_s=460.0))
    absent = replace(contestant, backend="litert", reason="not here")
    rows = [replace(contestant, backend=name) for name in ("tensorrt", "openvino")]
    check.measure([contestant, rows[0], rows[0], rows[1], absent], images)
    assert given == [("onnxruntime-cpu", 430.0), ("tensorrt", 220.0), ("openvino", 220.0), ("litert", 0.0)]


def test_what_runs_at_once_fits_into_the_memory():
    assert processes_at_once(8 * 2**30, None) == 4
    assert processes_at_once(128 * 2**30, AMPERE) == 6
    assert processes_at_once(7 * 2**30, replace(AMPERE, memory_bytes=7 * 2**30)) == 3  # an Orin Nano's, both the same
    assert processes_at_once(2 * 2**30, None) == 2


def test_groups_are_the_references_then_a_backend_each_as_far_as_they_fit(quadrants):
    def row(backend, precision, batch=None):
        return Contestant(backend, precision, quadrants.spec, batch=batch)

    built = [row("onnxruntime-tensorrt", "fp16", batch) for batch in (1, 64)]
    rows = [row("tensorrt", precision) for precision in ("fp32", "fp16", "int8")]
    compiled = row("torch-compile-cuda", "fp32")
    groups = in_groups([row("eager", "fp32"), compiled, *rows, *built, row("onnxruntime-cpu", "fp32")], 2)
    assert [[(each.name, each.batch) for each in group] for group in groups] == [
        [("eager fp32", None), ("onnxruntime-cpu fp32", None)],
        [("tensorrt fp32", None), ("tensorrt fp16", None)],
        [("tensorrt int8", None)],
        [("onnxruntime-tensorrt fp16", 1)],
        [("onnxruntime-tensorrt fp16", 64)],
        [("torch-compile-cuda fp32", None)],
    ]


def test_on_a_gpu_what_failed_and_need_not_is_lacking(quadrants, row, monkeypatch):
    """All that could use the GPU failed, each in its own way, and the CPU's rows are fine."""
    monkeypatch.setattr(gpu_verdict, "why_unavailable", lambda name: "not here" if name == "tensorrt-rtx" else None)
    misfit = "fp8 needs compute capability 8.9"
    contestants = [
        *(Contestant("tensorrt", precision, quadrants.spec) for precision in ("fp32", "fp16")),
        Contestant("tensorrt", "fp8", quadrants.spec, reason=misfit),
        Contestant("onnxruntime-cuda", "fp32", quadrants.spec),
        Contestant("onnxruntime-tensorrt", None, quadrants.spec, reason="network.quill holds no file"),
        Contestant("tensorrt-rtx", None, quadrants.spec, reason="not here"),
        Contestant("eager-cuda", "fp32", quadrants.spec),
        Contestant("torch-compile-cuda", "fp32", quadrants.spec, reason="backend torch-compile-cuda needs triton"),
    ]
    rows = [
        row,
        *(Row("tensorrt", "fp32", batch, reason="TypeError: execute_async_v3()") for batch in (1, 64)),
        Row("tensorrt", "fp8", 1, reason=misfit),
        Row("onnxruntime-cuda", "fp32", 1, reason="its process was ended by SIGSEGV in 'check'"),
        Row("eager-cuda", "fp32", 1, reason=f"{LATE} before its turn"),
    ]
    steps = [
        Step("copies by pycuda", 0.1, reason="needs the package pycuda: none"),
        Step("CUDA graph by cuda-python", 0.1, reason="CUDA failed"),
        Step("FP32 ONNX", 0.1, reason="no onnxscript"),
        Step("FP32 ONNX out of a bundle", 0.1),
        Step("tensorrt fp8 engine", 0.1, reason="no kernels"),
        Step("tensorrt int8 engine", 0.1, reason="AttributeError: x"),
        Step("tensorrt bf16 engine", 0.1, reason="the time for preparing was up before its turn; give more --minutes"),
        Step("tensorrt-rtx int8 engine", 0.1, reason="not here"),
    ]
    assert gpu_lacks(contestants, rows, steps, AMPERE) == [
        "CUDA graph by cuda-python: CUDA failed",
        "tensorrt int8 engine: AttributeError: x",
        "tensorrt fp32, batch 1, 64: TypeError: execute_async_v3()",
        "onnxruntime-cuda fp32, batch 1: its process was ended by SIGSEGV in 'check'",
        "tensorrt: nothing of it was measured",
        "onnxruntime-cuda: nothing of it was measured",
        "onnxruntime-tensorrt: nothing of it was measured",
        "eager-cuda: nothing of it was measured",
        "any row on the GPU",
    ]
    assert gpu_lacks(contestants, rows, steps, None) == []
    ran = [
        replace(row, backend=name) for name in ("tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt", "eager-cuda")
    ]
    late = Row("tensorrt", "fp16", 64, reason=f"{LATE} in its turn: no answer to 'check' within 30 s")
    assert gpu_lacks(contestants, [*ran, late], [], AMPERE) == []


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
@pytest.mark.parametrize("driver", ["pycuda", "cuda-python"])
@pytest.mark.parametrize("step", [Steps.copies, Steps.graph])
def test_what_needs_a_gpu_says_so(step, driver):
    with pytest.raises(BackendUnavailable, match=driver):
        step(Steps(), driver)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))
@pytest.mark.parametrize("driver", ["pycuda", "cuda-python"])
def test_copies_on_a_gpu_are_faster_for_more_bytes(driver):
    _, copies = Steps().copies(driver)
    assert copies[0]["h2d_gb_per_s"] < copies[-1]["h2d_gb_per_s"]


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))
@pytest.mark.parametrize("driver", ["pycuda", "cuda-python"])
def test_a_graph_of_kernels_computes_on_a_gpu(driver):
    _, times = Steps().graph(driver)
    assert times["graph_ms"] > 0


def test_the_kernel_is_one_that_nvidias_assembler_takes(tmp_path):
    triton = pytest.importorskip("triton", reason="no triton, whose package has ptxas")
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not assembler.exists():
        pytest.skip("this triton has no ptxas")
    (tmp_path / "kernel.ptx").write_bytes(PTX)
    for architecture in ("sm_75", "sm_87", "sm_90"):
        command = [assembler, "-arch", architecture, tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("on_gpu", [True, False])
def test_the_matrix_has_every_precision_with_cuda_graphs_and_without(quadrants, tmp_path, on_gpu):
    gpus = ("onnxruntime-cuda", "onnxruntime-tensorrt")
    backends = {Precision.FP32: (*gpus, "onnxruntime-cpu"), Precision.FP16: gpus}
    files = [
        entry_for(b"g", f"{p.value}.onnx", "onnx", precision=p, backends=backends.get(p, ()), typed_for=("tensorrt",))
        for p in PRECISIONS
        if p is not Precision.TF32
    ]
    files += [entry_for(b"e", f"{p.value}.e", "engine", precision=p, backends=("tensorrt",)) for p in PRECISIONS]
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    bundle = Bundle(tmp_path / "m.quill", manifest, {entry.path: data for entry, data in files}, "")
    (tmp_path / "c.safetensors").write_bytes(b"")
    contestants = matrix(bundle, tmp_path / "c.safetensors", (1, 1024), on_gpu=on_gpu)
    assert len({(row.name, row.batch) for row in contestants}) == len(contestants)
    rows = list(dict.fromkeys(row.name for row in contestants))
    built = [row for row in contestants if row.backend == "onnxruntime-tensorrt"]
    assert [(row.name.partition(" ")[2], row.batch) for row in built] == [
        (f"{precision}{variant}", batch)
        for precision in ("fp32", "fp16")
        for variant in ("", " CUDA graph", " io_binding=0")
        for batch in (1, 1024)
    ]
    for row in built:  # the session refuses a CUDA graph of several batch sizes
        options = {**row.options, **({"trt_cuda_graph_enable": "1"} if row.cuda_graph else {})}
        assert str(parse_options(row.backend, options).batches) == f"{row.batch}:{row.batch}:{row.batch}"
    for precision in ("fp32", "tf32", "fp16", "bf16", "int8", "fp8"):
        assert {f"tensorrt {precision}", f"tensorrt {precision} CUDA graph"} <= set(rows)
    for precision in ("fp32", "tf32", "fp16", "bf16"):
        assert {f"eager-cuda {precision}", f"eager-cuda {precision} CUDA graph"} <= set(rows)
    assert [row for row in rows if "mode=" in row] == [
        f"torch-compile-cuda {precision} mode={mode}"
        for precision in ("fp32", "fp16")
        for mode in ("reduce-overhead", "max-autotune")
    ]
    assert {"onnxruntime-cuda fp32", "onnxruntime-cuda fp32 io_binding=0", "onnxruntime-cuda tf32 CUDA graph"} <= set(
        rows
    )
    on_cpu = [row for row in rows if row.split()[0] in ("eager", "torch-compile", "onnxruntime-cpu", "openvino")]
    assert (on_cpu == ["eager fp32", "onnxruntime-cpu fp32"]) is on_gpu


def test_the_script_works_from_a_plain_checkout(tmp_path):
    """It must find the package by itself: here it only has to print its help, the self-test is a run of its own."""
    script = Path(gpu_check.__file__).resolve().with_name("gpu_check.sh")
    if not script.exists():  # an installed package has no scripts beside it
        script = Path(__file__).parents[2] / "benchmarks" / "gpu_check.sh"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHON": sys.executable}
    done = subprocess.run([script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "--self-test" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_report_marks_what_is_wrong(row, tmp_path):
    reference = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    layers = (LayerTime("conv", "conv", "int8", ("conv1",), 0.25), LayerTime("head", "gemm", "fp32", ("fc",), 0.75))
    told = replace(row, measured=replace(row.measured, layers=layers))
    rows = [with_logits(told, reference, reference), with_logits(row, -reference, reference)]
    facts = {**asdict(Settings(seconds=1)), "images": 5, "source": "noise", "provider_options": {}}
    rotation = plan(np.zeros((5, 1, 8, 8), np.float32), "noise")
    copied = {"bytes": 3136, "n": 100, **dict.fromkeys(COPY_TIMES, 0.5)}
    steps = (Step("images", 1.0, reason="no images"), Step("copies by pycuda", 1.0, [copied]))
    outcome = Outcome(Result(facts, describe(), tuple(rows), rotation), steps, tuple(judge(rows)))
    write_outcome(outcome, tmp_path)
    text = (tmp_path / "result.md").read_text()
    assert [line.split("|")[-2].strip() for line in text.splitlines() if "| 0.0001 |" in line] == ["ok", "WRONG"]
    assert "| images | 1.0 | no images |" in text
    assert "| pycuda | 3,136 | 100 |" in text
    assert "| onnxruntime-cpu fp32 | 1 | int8 1, fp32 1 |" in text
    assert "| conv | conv1 | int8 | 0.2500 | 25.0% |" in text
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["check"]["passed"], [verdict["passed"] for verdict in found["check"]["parity"]]) == (
        False,
        [True, False],
    )
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
