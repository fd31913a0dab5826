"""The commands that repeat a result are what made it."""

from dataclasses import replace

import pytest
from invented import REFERENCE, absent, result, row

from quillrt.benchmarks.images import SYNTHETIC
from quillrt.benchmarks.repeating import bench_command, commands
from quillrt.runtime.backends import BACKENDS
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.pretrained import find


@pytest.fixture(scope="module")
def made():
    everyone = [absent(name, 1, "not here") for name in BACKENDS]
    return result(row(REFERENCE, 1, 1.0), row("onnxruntime-cpu fp32", 1, 0.5), *everyone)


def test_all_backends_need_no_option_and_some_are_named(made):
    assert bench_command(made) == (
        "quillrt bench digits.quill --checkpoint CHECKPOINT --scenario single-stream --batch 1 --seconds 1 --rounds 5 "
        "--builds 1 --threads 1 --images 2000 --seed 0 --dataset mnist --part test"
    )
    assert bench_command(result(row("openvino fp32", 1, 1.0))).endswith("--part test --backend openvino")


def test_settings_are_given_as_they_were(made):
    changed = {"scenario": "server", "latency_bound_ms": 2.5, "source": SYNTHETIC, "provider_options": {"a": "b c"}}
    line = bench_command(replace(made, settings={**made.settings, **changed, "layers": True}))
    assert "--scenario server" in line
    assert "--device" not in line
    assert " --device 1 " in bench_command(replace(made, settings={**made.settings, "device": 1}))
    assert line.endswith("--seed 0 --latency-bound-ms 2.5 --provider-option 'a=b c' --layers")


def test_rows_that_a_preset_brings_need_no_option(made):
    rows = [
        row("eager bf16 autocast=bfloat16", 1, 1.0),
        row("eager fp32 mode=own", 1, 1.0),
        row("tensorrt fp16 CUDA graph", 1, 1.0),
        replace(row("onnxruntime-loop fp32", 1, 1.0), kind="peer"),
        replace(row("trtexec fp32", 1, 1.0), kind="peer"),
    ]
    full = replace(made, rows=(*made.rows, *rows), settings={**made.settings, "preset": "full"})
    assert bench_command(full).endswith("--preset full --cuda-graph --variant mode=own --peer trtexec")


def test_a_model_that_comes_along_is_called_by_its_name(made):
    sha256 = Bundle.open(find("digits", ".quill")).sha256
    line = bench_command(replace(made, model={"name": "any.quill", "sha256": sha256}))
    assert line.startswith("quillrt bench models:digits --checkpoint models:digits ")


def test_code_and_packages_come_first(made):
    changed = {**made.environment, "git": {"commit": "b" * 40, "changed": True}}
    first, second, _ = commands(replace(made, environment=changed))
    assert first == f"git checkout {'b' * 40}    # it had changes besides"
    assert second == "pip install . numpy==2.4.6"
    assert commands(replace(made, model={}))[-1] == "benchmarks/gpu_check.sh OUT_FOLDER"
    assert len(commands(replace(made, environment={**made.environment, "git": None}))) == 2
