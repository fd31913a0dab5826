import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest


@pytest.fixture
def bench(quillrt, quadrants_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("quillrt.benchmarks.rotation.last_cache_bytes", lambda: None)  # a smaller rotation will do

    def bench(*options, bundle=quadrants_bundle):
        return quillrt("bench", bundle, "--output", tmp_path / "out", "--seconds", 0.02, "--quiet", *options)

    return bench


def test_json_on_stdout_and_the_report_in_the_folder(bench, tmp_path):
    code, out, err = bench("--batch", 2, "--backend", "onnxruntime-cpu", "--backend", "eager", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    rows = {(row["backend"], row["batch"]): row for row in result["rows"]}
    assert set(rows) == {("eager", 2), ("onnxruntime-cpu", 2)}
    assert "--checkpoint" in rows["eager", 2]["reason"]
    assert rows["onnxruntime-cpu", 2]["measured"]["median_ms"] > 0
    assert result["settings"]["threads"] == 1
    assert result["settings"]["source"] == "digits test"
    files = {"result.json", "result.md", "latency.png", "log.txt", "config.toml"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files


def test_a_termination_leaves_no_images_and_no_process(quadrants_bundle, tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = [sys.executable, "-m", "quillrt.cli", "bench", quadrants_bundle, "--backend", "onnxruntime-cpu"]
    process = subprocess.Popen(
        [*command, "--seconds", "600", "--output", tmp_path / "out"],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    worker = f"/proc/{process.pid}/task/{process.pid}/children"
    while not (list(folder.glob("quillrt-bench-*/rotation.npy")) and Path(worker).read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    children = [int(number) for number in Path(worker).read_text().split()]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert b"Traceback" not in err
    assert not list(folder.glob("quillrt-*"))
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_every_scenarios_result_has_the_published_form(bench, tmp_path):
    jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema, out of the extra dev")
    schema = json.loads((files("quillrt.benchmarks") / "result.schema.json").read_text(encoding="utf-8"))
    common = ("--backend", "onnxruntime-cpu", "--backend", "eager", "--rounds", 2)
    for options, batch in (
        (("--batch", 2, "--peer", "onnxruntime-loop", "--layers", "--builds", 2), 2),
        (("--scenario", "multi-stream"), 8),
        (("--scenario", "offline", "--preset", "quick"), 64),
        (("--scenario", "server", "--latency-bound-ms", 1000), 1),
    ):
        code, out, err = bench(*common, *options)
        assert (code, err) == (0, "")
        assert "fastest at batch" in out
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        jsonschema.validate(result, schema)
        row = next(row for row in result["rows"] if row["backend"] == "onnxruntime-cpu")
        assert row["batch"] == batch
        assert row["verdict"] == "baseline"
        assert row["measured"]["accuracy"] is None  # of digits, a net of quadrants knows no labels
        assert any("no accuracy: digits test has no labels out of nw ne sw se" in line for line in result["warnings"])
    assert row["measured"]["served"]
    assert bench(*common, "--json")[1].count("latencies_ns") == 0


def test_two_results_say_which_images_they_got_wrong_and_compare_exactly(bench, quillrt, tmp_path):
    options = ("--backend", "onnxruntime-cpu", "--dataset", "digits", "--images", 300, "--batch", 1)
    assert bench(*options, bundle="models:digits")[0] == 0
    plain = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(plain["settings"]["images_sha256"]) == 64
    for row in plain["rows"]:
        if row["measured"]:
            accuracy = row["measured"]["accuracy"]
            assert len(accuracy["wrong"]) == accuracy["images"] - accuracy["right"] > 0
    _, out, _ = quillrt("compare", tmp_path / "out" / "result.json", tmp_path / "out" / "result.json", "--json")
    found = [row["accuracy"] for row in json.loads(out)["rows"]]
    assert {(each["p_low"], each["p_high"], each["bounded"]) for each in found} == {(1.0, 1.0, "")}


def test_a_preset_chooses_and_options_go_before_it(bench, tmp_path):
    code, _, _ = bench("--preset", "full", "--backend", "onnxruntime-cpu", "--rounds", 2, "--images", 5, "--batch", 1)
    assert code == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    settings = result["settings"]
    assert (settings["preset"], settings["rounds"], settings["images"], settings["seconds"]) == ("full", 2, 5, 0.02)
    assert settings["builds"] == 2  # its four, but for the rounds
    assert [row["name"] for row in result["rows"]] == ["onnxruntime-cpu fp32", "onnxruntime-loop fp32"]
    assert len(result["beside"]) == 1


@pytest.mark.parametrize(("builds", "doubted"), [(1, False), (2, True), (3, False)])
def test_two_builds_are_doubted(quillrt, quadrants_bundle, tmp_path, monkeypatch, builds, doubted):
    monkeypatch.setattr("quillrt.benchmarks.rotation.last_cache_bytes", lambda: None)
    options = ("--seconds", 0.02, "--rounds", 3, "--batch", 1, "--images", 5, "--backend", "onnxruntime-cpu")
    code, _, err = quillrt("bench", quadrants_bundle, "--output", tmp_path, "--builds", builds, *options)
    assert (code, "give --builds 3 or more" in err) == (0, doubted)


def test_the_full_preset_has_pytorch_done_right(bench, tmp_path):
    options = ("--backend", "eager", "--backend", "torch-compile", "--backend", "onnxruntime-cpu", "--images", 2)
    bench("--preset", "full", *options, "--batch", 1, "--rounds", 1)
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    assert [row["name"] for row in rows if row["kind"] == "backend"] == [
        "eager fp32",
        "eager fp32 memory_format=channels_last",
        "eager bf16 autocast=bfloat16",
        "eager bf16 memory_format=channels_last,autocast=bfloat16",
        "torch-compile fp32",
        "torch-compile fp32 memory_format=channels_last",
        "torch-compile bf16 autocast=bfloat16",
        "torch-compile bf16 memory_format=channels_last,autocast=bfloat16",
        "torch-compile fp32 mode=reduce-overhead",
        "torch-compile fp32 mode=max-autotune",
        "torch-compile bf16 mode=max-autotune,memory_format=channels_last,autocast=bfloat16",
        "onnxruntime-cpu fp32",
    ]


def test_the_gpu_preset_has_gpus_and_their_references(bench, tmp_path):
    code, _, _ = bench("--preset", "gpu", "--batch", 1, "--rounds", 1, "--images", 2)
    assert code == 0
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    backends = {row["backend"] for row in rows}
    assert {"eager-cuda", "torch-compile-cuda", "tensorrt", "eager", "onnxruntime-cpu"} <= backends
    assert "openvino" not in backends


def test_the_table_names_every_backend_and_the_machine(bench):
    code, out, _ = bench("--batch", 1)
    assert code == 0
    words = " ".join(out.split())
    for name in (
        "eager",
        "torch-compile",
        "onnxruntime-cpu",
        "openvino",
        "tensorrt",
        "tensorrt-rtx",
        "onnxruntime-cuda",
    ):
        assert name in words
    assert "Machine:" in words
    assert "CPU threads per query: 1" in words


def test_reasons_stand_below_the_table_once_each(bench):
    code, out, _ = bench("--backend", "onnxruntime-cpu", "--backend", "eager", "--backend", "torch-compile")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "--checkpoint" in line]
    assert line.startswith("not run here: eager fp32; torch-compile fp32: no checkpoint")


def test_no_figure_is_torn_on_a_terminal_of_80_columns(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = bench("--backend", "onnxruntime-cpu", "--backend", "openvino")
    assert code == 0
    rows = [row["measured"] for row in json.loads((tmp_path / "out" / "result.json").read_text())["rows"]]
    assert any(rows)
    words = out.split()
    for measured in filter(None, rows):
        assert f"{measured['median_ms']:.3f}" in words
        assert f"{measured['images_per_second']:,.0f}" in words
        assert f"{measured['agreement']['max_difference']:.1e}" in words


def test_on_a_device_without_scikit_learn_the_report_says_what_it_ran(bench, monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):  # the second, too, for another test may have imported it
        monkeypatch.setitem(sys.modules, module, None)
    options = ("--batch", 1, "--backend", "onnxruntime-cpu")
    code, out, _ = bench(*options)
    assert code == 0
    assert "256 images (synthetic images" in " ".join(out.split())
    code, out, err = bench(*options, "--dataset", "digits")
    assert (code, out) == (1, "")
    assert "quillrt[train]" in err


@pytest.mark.parametrize(
    ("options", "wrong", "right"),
    [
        (["--backend", "abacus"], "abacus", "onnxruntime-cpu"),
        (["--dataset", "runes"], "runes", "digits"),
        (["--preset", "slow"], "slow", "quick"),
        (["--scenario", "burst"], "burst", "single-stream"),
        (["--scenario", "server"], "none", "--latency-bound-ms"),
        (["--latency-bound-ms", "5"], "single-stream", "server"),
        (["--scenario", "server", "--latency-bound-ms", "0"], "0", "above 0 ms"),
        (["--scenario", "server", "--latency-bound-ms", "5", "--peer", "onnxruntime-loop"], "peer", "leave it out"),
        (["--peer", "abacus"], "abacus", "onnxruntime-loop"),
        (["--sweep", "abacus"], "abacus", "batch, threads, size"),
        (["--sweep", "size"], "checkpoint", "give one"),
        (["--scenario", "server", "--latency-bound-ms", "5", "--sweep", "batch"], "sweep", "leave it out"),
        (["--rounds", "2", "--builds", "3"], "3", "1 to 2 builds"),
        (["--variant", "mode=default,graph"], "graph", "mode"),
        (["--part", "exam"], "exam", "validation"),
        (["--checkpoint", "none.safetensors", "--backend", "openvino"], "none.safetensors", "checkpoint"),
        (["--backend", "openvino", "--provider-option", "io_binding=0"], "io_binding", "onnxruntime-cuda"),
        (["--backend", "openvino", "--variant", "io_binding=0"], "io_binding", "onnxruntime-cuda"),
        (["--backend", "onnxruntime-cuda", "--variant", "graph=1"], "graph", "enable_cuda_graph"),
    ],
)
def test_a_wrong_name_is_one_line_that_tells_the_right_ones(bench, tmp_path, options, wrong, right):
    code, out, err = bench(*options)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert wrong in err
    assert right in err
    assert not (tmp_path / "out").exists()


def test_a_variant_is_a_row_of_its_own_and_options_are_every_rows(bench, tmp_path):
    variants = ("--variant", "io_binding=0", "--variant", "enable_cuda_graph=1")
    options = ("--backend", "onnxruntime-cuda", "--backend", "onnxruntime-cpu", "--provider-option", "prefer_nhwc=1")
    code, _, _ = bench("--batch", 1, *options, *variants)
    assert code == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [(row["backend"], row["precision"], row["variant"]) for row in result["rows"]] == [
        *[
            ("onnxruntime-cuda", precision, variant)
            for precision in ("fp32", "tf32")
            for variant in ("", "io_binding=0", "enable_cuda_graph=1")
        ],
        ("onnxruntime-cpu", "fp32", ""),
    ]
    assert result["settings"]["provider_options"] == {"prefer_nhwc": "1"}
    page = (tmp_path / "out" / "result.md").read_text()
    assert "prefer_nhwc=1, where a backend has it" in page
    saved = (tmp_path / "out" / "config.toml").read_text()
    assert 'variant = ["io_binding=0", "enable_cuda_graph=1"]' in saved


def test_layers_are_timed_where_the_backend_tells(bench, tmp_path):
    code, out, _ = bench("--batch", 2, "--backend", "onnxruntime-cpu", "--backend", "openvino", "--layers")
    assert code == 0
    assert "Layers of onnxruntime-cpu fp32, batch 2" in out
    assert "no times of layers: openvino fp32: openvino tells of no layers" in out
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    told = {row["backend"]: row["measured"]["layers"] for row in rows if row["measured"]}
    assert told["openvino"] == []
    assert sum(layer["ms"] for layer in told["onnxruntime-cpu"]) > 0
    page = (tmp_path / "out" / "result.md").read_text()
    assert "| layer | module | computes in | ms | share |" in page


def test_a_row_with_cuda_graphs_is_asked_of_gpus_alone(bench):
    code, _, err = bench("--batch", 1, "--backend", "onnxruntime-cpu", "--cuda-graph")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "for CUDA graphs, found onnxruntime-cpu" in err
    code, out, _ = bench("--batch", 1, "--backend", "onnxruntime-cpu", "--backend", "onnxruntime-cuda", "--cuda-graph")
    assert code == 0
    assert "onnxruntime-cuda fp32 CUDA graph" in out


def test_without_matplotlib_there_are_figures_and_a_line_instead_of_the_plot(
    quillrt, quadrants_bundle, monkeypatch, tmp_path
):
    find = importlib.util.find_spec
    monkeypatch.setattr("quillrt.benchmarks.plot.find_spec", lambda name: None if name == "matplotlib" else find(name))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "latency.png").write_bytes(b"of an older run")
    options = ("--batch", 1, "--seconds", 0.02, "--backend", "onnxruntime-cpu", "--json", "--output", folder)
    code, out, err = quillrt("bench", quadrants_bundle, *options)
    assert (code, json.loads(out)["rows"][0]["measured"]["median_ms"] > 0) == (0, True)
    assert {path.name for path in folder.iterdir()} == {"result.json", "result.md", "log.txt", "config.toml"}
    assert err.splitlines() == [
        "no plot: the plot needs the package matplotlib: pip install 'quillrt[bench]'",
        f"written: result.json, result.md, log.txt in {folder}",
    ]


def test_a_bench_that_measured_nothing_fails_in_one_line(bench, tmp_path):
    code, out, err = bench("--batch", 1, "--backend", "eager", "--backend", "torch-compile", "--json")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "found none: not run here: eager fp32; torch-compile fp32: no checkpoint was given" in err
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    assert [row["measured"] for row in rows] == [None, None]


def test_a_missing_bundle_is_one_line(bench, tmp_path):
    code, _, err = bench(bundle=tmp_path / "none.quill")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "none.quill" in err


def test_an_output_that_cannot_be_written_is_one_line(bench, tmp_path):
    (tmp_path / "out").write_text("a file, not a folder")
    code, _, err = bench("--batch", 1, "--backend", "onnxruntime-cpu")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "out" in err


def test_a_batch_must_be_positive(bench):
    assert bench("--batch", 0)[0] == 2
