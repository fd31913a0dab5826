import sys

import pytest

from quillrt.benchmarks.session_overhead import overhead
from quillrt.benchmarks.thin_report import Sample, closure_mb, draw_one, medians, sample, table
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.images import read_image


def test_a_process_is_measured_alone():
    code = "x = bytearray(150_000_000); import time; time.sleep(0.2); print('done')"

    taken, idle = sample([sys.executable, "-c", code], "done"), sample([sys.executable, "-c", "pass"])

    assert taken.wall_s > 0.2
    assert taken.cpu_s > 0
    assert 140 < taken.peak_mb - idle.peak_mb < 170


@pytest.mark.parametrize("code", ["print('other')", "raise SystemExit(1)"])
def test_what_fails_or_answers_otherwise_is_no_sample(code):
    with pytest.raises(ConfigError, match="expected done of "):
        sample([sys.executable, "-c", code], "done")


def test_the_size_of_a_package_counts_what_it_requires_once():
    alone, both = closure_mb("pillow"), closure_mb("pillow", "pillow")

    assert 1 < alone == both < 100
    assert closure_mb("typer") > closure_mb("click-that-nobody-installed") == 0


def test_the_digit_is_one_that_needs_no_fitting(tmp_path):
    assert draw_one(tmp_path / "1.png") == "1"
    assert read_image(tmp_path / "1.png").shape == (28, 28)


def test_the_table_has_medians_and_ratios():
    samples = {
        name: [Sample(factor * wall, factor * wall / 2, factor * 10) for wall in (3, 1, 2)]
        for name, factor in {
            "import runtime": 1,
            "import torch": 10,
            "import torch, torchvision": 20,
            "quillrt run": 2,
            "torch predicts": 40,
        }.items()
    }
    sizes = {"quillrt": 100.0, "quillrt[ort]": 200.0, "torch, torchvision": 4000.0}

    found = table(sizes, medians(samples))

    assert "| installed, bare | 100 MB | 4,000 MB | 0.025 |" in found
    assert "| import, by the clock | 2.00 s | 40.00 s | 0.050 |" in found
    assert "| `quillrt run` beside `import torch` alone, processor time | 2.00 s | 10.00 s | 0.200 |" in found
    assert "| peak memory, one image | 20 MB | 400 MB | 0.050 |" in found


def test_the_overhead_is_of_each_graph():
    pytest.importorskip("onnxruntime")

    rows = overhead(queries=20)

    assert {row["file"] for row in rows} == {"model.fp32.onnx", "model.fp16.onnx", "model.int8.cpu.onnx"}
    assert all(0 < row["onnxruntime_us"] < 1e6 and 0 < row["session_us"] < 1e6 for row in rows)
