"""calibrate, compile and verify as a user types them, on a small ONNX classifier and a folder of images."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from quillrt.runtime.backends import ONNX_ON_CPU
from quillrt.runtime.bundle import Bundle


@pytest.fixture
def model(quadrants, tmp_path):
    (tmp_path / "quadrants.onnx").write_bytes(quadrants.onnx)
    return tmp_path / "quadrants.onnx"


@pytest.fixture
def options(tmp_path):
    """Options that describe the model, with a data set of ten noisy images of each class in a folder."""
    rng = np.random.default_rng(0)
    for k, label in enumerate(["ne", "nw", "se", "sw"]):  # sorted, as a folder's classes are
        (tmp_path / "images" / label).mkdir(parents=True)
        row, column = (4 * (label[0] == "s"), 4 * (label[1] == "e"))
        for i in range(10):
            pixels = rng.integers(0, 60, (28, 28)).astype(np.uint8)
            pixels[row * 7 // 2 :, column * 7 // 2 :][:14, :14] += 150
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{k}{i}.png")
    return ["--dataset", f"folder:{tmp_path / 'images'}", "--labels", "nw,ne,sw,se", "--mean", 0.5, "--std", 0.5]


@pytest.fixture
def compiled(quillrt, model, options, tmp_path):
    code, out, err = quillrt("compile", model, *options, "--samples", 16, "--target", "onnxruntime-cpu", "--json")
    assert code == 0, err
    return tmp_path / "quadrants.quill", json.loads(out)


def test_compile_writes_a_bundle_and_says_how_its_files_did(compiled) -> None:
    path, report = compiled
    bundle = Bundle.open(path)
    assert report["sha256"] == bundle.sha256
    assert bundle.manifest.model.labels == ("nw", "ne", "sw", "se")
    ran = {(v["path"], v["backend"]): v for v in report["verdicts"] if v["n"]}
    assert ran["model.fp32.onnx", "onnxruntime-cpu"]["accuracy"] == 1
    assert ran["model.int8.cpu.onnx", "onnxruntime-cpu"]["agreement"] == 1
    assert path.with_name("quadrants.quill.toml").read_text().startswith("[compile]")


def test_figures_of_little_worth_are_doubted(quillrt, model, options, tmp_path, monkeypatch) -> None:
    """Few images, no photographs to tell characters from, then labels of other classes."""
    monkeypatch.setattr("quillrt.train.negatives.find_spec", lambda name: None)
    arguments = ("--precision", "fp32", "--target", "onnxruntime-cpu", "-o", tmp_path / "doubted.quill")
    code, _, err = quillrt("compile", model, *options, *arguments)
    assert code == 0, err
    said = " ".join(err.split())
    assert "no more than chance" not in said
    assert "found on n = " in said
    assert "every image is taken for a character" in said
    _, out, _ = quillrt("inspect", tmp_path / "doubted.quill")
    assert "every image is taken for one" in out
    wrong = [*options[:3], "se,sw,ne,nw", *options[4:]]
    _, _, err = quillrt("compile", model, *wrong, *arguments[:-1], tmp_path / "wrong.quill")
    assert "FP32 has 0.00% of n = " in " ".join(err.split())


def test_a_table_made_before_gives_the_same_int8_graph(quillrt, model, options, compiled, tmp_path) -> None:
    path, _ = compiled
    table = tmp_path / "table.json"
    assert quillrt("calibrate", model, *options, "--samples", 16, "-o", table)[0] == 0
    again = tmp_path / "again.quill"
    arguments = ["--calibration", table, "--target", "onnxruntime-cpu", "-o", again]
    assert quillrt("compile", model, *options, *arguments)[0] == 0
    name = "model.int8.cpu.onnx"
    assert Bundle.open(again).files[name] == Bundle.open(path).files[name]


def test_the_saved_configuration_compiles_the_same_again(quillrt, model, compiled) -> None:
    path, _ = compiled
    first = path.read_bytes()
    path.unlink()
    assert quillrt("compile", model, "--config", path.with_name("quadrants.quill.toml"))[0] == 0
    assert path.read_bytes() == first


def test_denoising_of_an_onnx_file_goes_into_bundle_and_table(quillrt, model, options, tmp_path) -> None:
    path, table = tmp_path / "clean.quill", tmp_path / "clean.json"
    steps = ["--denoise", "median", "--denoise", "levels"]
    arguments = [*steps, "--samples", 16, "--target", "onnxruntime-cpu"]
    assert quillrt("calibrate", model, *options, *steps, "--samples", 16, "-o", table)[0] == 0
    assert quillrt("compile", model, *options, *arguments, "--calibration", table, "-o", path)[0] == 0
    assert Bundle.open(path).manifest.model.preprocessing.denoise == ("median", "levels")
    assert json.loads(table.read_text())["preprocessing"]["denoise"] == ["median", "levels"]
    first = path.read_bytes()
    assert quillrt("compile", model, "--config", path.with_name("clean.quill.toml"))[0] == 0
    assert path.read_bytes() == first
    image = sorted((tmp_path / "images" / "se").iterdir())[0]
    code, out, _ = quillrt("run", path, image, "--preprocessing", "as-is", "--quiet")
    assert (code, out.split()[1]) == (0, "se")


def test_verify_passes_and_shows_what_cannot_run(quillrt, options, compiled) -> None:
    code, out, _ = quillrt("verify", compiled[0], *options[:2])
    assert code == 0
    assert "not run here" in out
    assert "100.00 %" in out


def test_verify_needs_to_know_the_data_set(quillrt, compiled) -> None:
    code, out, err = quillrt("verify", compiled[0])
    assert (code, out) == (1, "")
    assert err.startswith("quillrt: error: expected --dataset")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int4"], "expected a precision out of"),
        (["--precision", "fp32", "--exclude", "head"], "expected a precision out of int8, mixed, fp8 beside --exclude"),
        (["--precision", "tf32"], "expected a precision out of fp32, fp16, bf16, int8, fp8, mixed, found tf32"),
        (["--target", "tpu"], "expected a target out of"),
        (["--method", "guess"], "expected a method out of"),
        (["--calibration", "nowhere.json"], "expected a calibration table at nowhere.json"),
        (["--labels", "a,b"], "2 labels"),
        (["--labels", "a,b,c,d"], "expected"),
        (["--fit", "stretch"], "fit must be one of"),
        (["--denoise", "sharpen"], "denoise must be steps out of median, gaussian, otsu, levels, but has 'sharpen'"),
        (["--samples", "9999"], "expected 1 to 24 calibration samples"),
        (["--precision", "fp16", "--calibration", "table.json"], "table.json"),
        (["--std", "0"], "std positive"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(quillrt, model, options, tmp_path, arguments, message) -> None:
    code, out, err = quillrt("compile", model, *options, *arguments, "--quiet", "-o", tmp_path / "out" / "model.quill")
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model", "taken.quill", "file/model.quill"])
def test_an_output_that_cannot_be_written_is_told_before_the_work(quillrt, tmp_path, name) -> None:
    """The model is none, but that is found later; a path below a file binds root too."""
    (tmp_path / "taken.quill").mkdir()
    (tmp_path / "file").touch()
    code, _, err = quillrt("compile", tmp_path / "none.onnx", "-o", tmp_path / name, "--quiet")
    assert code == 1
    assert "give" in err
    assert name.split("/")[0] in err
    assert err.count("\n") == 1


def test_an_onnx_file_without_output(quillrt, options, quadrants, tmp_path) -> None:
    model = onnx.load_from_string(quadrants.onnx)
    del model.graph.output[:]
    (tmp_path / "mute.onnx").write_bytes(model.SerializeToString())
    code, out, err = quillrt("compile", tmp_path / "mute.onnx", *options, "--quiet")
    assert (code, out) == (1, "")
    assert err.startswith("quillrt: error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.quill*"))


def test_a_table_without_int8_is_refused(quillrt, model, options, tmp_path) -> None:
    table = tmp_path / "table.json"
    assert quillrt("calibrate", model, *options, "--samples", 16, "-o", table)[0] == 0
    code, _, err = quillrt("compile", model, *options, "--precision", "fp16", "--calibration", table, "--quiet")
    assert (code, "expected --precision int8, mixed or fp8 beside a calibration table" in err) == (1, True)


def test_noise_calibrates_only_when_asked_for_and_the_bundle_says_so(quillrt, model, options, tmp_path) -> None:
    path = tmp_path / "noise.quill"
    arguments = ["--random-data", "--samples", 16, "--target", "onnxruntime-cpu", "-o", path, "--quiet"]
    quillrt("compile", model, *options, *arguments)
    _, out, _ = quillrt("inspect", path)
    assert "INT8 ranges: minmax on 16 images of random data" in out


def test_calibrating_on_noise_needs_no_images(quillrt, model, tmp_path) -> None:
    table = tmp_path / "noise.json"
    assert quillrt("calibrate", model, "--labels", "nw,ne,sw,se", "--random-data", "-o", table)[0] == 0
    assert json.loads(table.read_text())["dataset"] == "random data"


def test_ranges_go_out_to_other_tools_and_come_back(quillrt, model, options, tmp_path) -> None:
    table, back = tmp_path / "table.json", tmp_path / "back.json"
    foreign = [tmp_path / "table.cache", tmp_path / "table.flatbuffers"]
    arguments = ["--export", foreign[0], "--export", foreign[1], "-o", table]
    code, out, _ = quillrt("calibrate", model, *options, "--samples", 16, *arguments)
    assert code == 0
    assert "█" in out
    ranges = {name: t["range"] for name, t in json.loads(table.read_text())["tensors"].items()}
    code, _, err = quillrt("calibrate", model, *options, "--from", foreign[0], "--samples", 16, "-o", back)
    assert (code, "not --samples too" in err) == (1, True)
    for path in foreign:
        assert quillrt("calibrate", model, *options, "--from", path, "-o", back)[0] == 0
        found = {name: t["range"] for name, t in json.loads(back.read_text())["tensors"].items()}
        assert {n: high for n, (_, high) in found.items()} == pytest.approx(
            {n: max(-low, high) for n, (low, high) in ranges.items()}
        )


def test_an_export_with_another_ending_is_told_before_the_work(quillrt, model, options, tmp_path) -> None:
    code, _, err = quillrt("calibrate", model, *options, "--export", "table.txt", "-o", tmp_path / "t.json", "--quiet")
    assert (code, "ending in .cache" in err) == (1, True)
    assert not (tmp_path / "t.json").exists()


def test_sensitivity_ranks_the_nodes_and_draws_them(quillrt, model, options, tmp_path) -> None:
    picture = tmp_path / "bars.png"
    code, out, err = quillrt("sensitivity", model, *options, "--samples", 16, "-o", picture, "--json")
    assert code == 0, err
    found = json.loads(out)
    errors = [node["alone"]["error"] for node in found["nodes"]]
    assert errors == sorted(errors, reverse=True)
    assert found["accuracy"] == 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = quillrt("sensitivity", model, *options, "--samples", 16, "-o", picture)
    assert found["nodes"][0]["node"] in out


def test_a_node_left_out_stays_in_fp32(quillrt, model, options, tmp_path) -> None:
    path = tmp_path / "out.quill"
    graph = onnx.load(model)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "eye"))
    graph.graph.node[-1].output[0] = "before"
    graph.graph.node.append(onnx.helper.make_node("MatMul", ["before", "eye"], [graph.graph.output[0].name], "last"))
    onnx.save(graph, model)
    _, out, _ = quillrt("sensitivity", model, *options, "--samples", 16, "-o", tmp_path / "bars.png", "--json")
    node = json.loads(out)["nodes"][0]["node"]
    arguments = ["--samples", 16, "--target", "onnxruntime-cpu", "--exclude", node, "-o", path]
    assert quillrt("compile", model, *options, *arguments)[0] == 0
    _, out, _ = quillrt("inspect", path, "--nodes")
    assert any(node in line and "it was excluded" in line for line in out.splitlines())
    code, _, err = quillrt("compile", model, *options, *arguments, "--exclude", "elsewhere", "--quiet")
    assert (code, "expected nodes to exclude out of" in err) == (1, True)


def test_a_gate_shows_what_was_tried_and_how_to_make_it_again(quillrt, model, options, tmp_path) -> None:
    path = tmp_path / "gated.quill"
    arguments = ["--samples", 16, "--target", "onnxruntime-cpu", "--max-drop", 0.1, "-o", path]
    code, out, err = quillrt("compile", model, *options, *arguments)
    assert code == 0, err
    assert "chosen" in out
    assert f"minmax: quillrt compile {model} --method minmax" in out
    assert path.with_suffix(".search.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("points", [-1, 101, "nan"])
def test_a_gate_that_is_none(quillrt, model, options, tmp_path, points) -> None:
    code, _, err = quillrt("compile", model, *options, "--max-drop", points, "-o", tmp_path / "a.quill", "--quiet")
    assert (code, "0 to 100 points" in err) == (1, True)


def test_the_fastest_is_kept_and_said(quillrt, model, options, tmp_path) -> None:
    path = tmp_path / "fast.quill"
    arguments = ["--samples", 16, "--target", "onnxruntime-cpu", "--precision", "auto", "--batch", 4, "-o", path]
    code, out, err = quillrt("compile", model, *options, *arguments)
    assert code == 0, err
    assert "one thread, batch 4, medians" in out
    assert out.count("kept") >= 1
    assert Bundle.open(path).manifest.preferred["backend"] in ONNX_ON_CPU


def test_verify_layer_by_layer(quillrt, model, options, tmp_path) -> None:
    bundle = tmp_path / "a.quill"
    code, out, err = quillrt("compile", model, *options, "--samples", 16, "--target", "onnxruntime-cpu", "-o", bundle)
    assert code == 0, err
    assert "model.int8.tensorrt.onnx" in out.partition("the graphs as they stand")[2]
    data = options[:2]
    code, out, err = quillrt("verify", bundle, *data, "--part", "all", "--layers", "--images", 8)
    assert code == 0, err
    assert "int8.tensorrt against fp32, 8 images; tolerance 0.2" in out
    arguments = ("verify", bundle, *data, "--part", "all", "--layers", "--against", "int8.cpu", "--tolerance", 0)
    code, out, err = quillrt(*arguments, "--json")
    assert code == 1
    assert "int8.cpu strays from fp32 at MatMul first" in err
    assert json.loads(out)["int8.cpu"]["first_beyond"]
    code, _, err = quillrt(*arguments[:-4], "--reference", "eager")
    assert (code, "eager needs --checkpoint" in err) == (1, True)


def test_the_same_command_gives_the_same_graphs_in_another_process(stand_in_folder, tmp_path) -> None:
    """Byte for byte, whatever order Python's sets have; the report alone may tell of other times."""
    found = []
    for seed in ("1", "2"):
        bundle = tmp_path / f"{seed}.quill"
        options = ["--precision", "fp16", "--precision", "bf16", "--precision", "int8", "--precision", "fp8"]
        options += [
            "--max-drop",
            "5",
            "--target",
            "onnxruntime-cpu",
            "--samples",
            "64",
            "--no-cache",
            "-o",
            str(bundle),
        ]
        command = [sys.executable, "-m", "quillrt.cli", "compile", str(stand_in_folder / "small.safetensors"), *options]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        found.append({name: data for name, data in Bundle.open(bundle).files.items() if name != "report.json"})
    assert found[0].keys() >= {"model.fp8.onnx", "model.int8.cpu.onnx", "model.bf16.onnx", "calibration.json"}
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("compile", "MODEL", "--target", "auto", "--target", "litert"),
            "expected --target auto alone, found auto, litert",
        ),
        (("compile", "MODEL", "--precision", "int8", "--precision", "auto"), "expected --precision auto alone"),
        (("verify", "BUNDLE", "--tolerance", 0.1), "expected --layers beside"),
        (("verify", "BUNDLE", "--images", 3), "expected --layers beside"),
        (
            ("verify", "BUNDLE", "--backend", "openvino"),
            "expected --backend out of pytorch, pytorch-aot, found openvino",
        ),
        (
            ("compile", "MODEL", "--target", "litert", "--precision", "bf16"),
            "expected a precision out of fp32, int8 for litert, found bf16",
        ),
        (
            ("compile", "MODEL", "--target", "openvino", "--precision", "fp16"),
            "expected a precision out of fp32, int8 for openvino, found fp16",
        ),
        (("compile", "MODEL", "--labels", "a,b,,d"), "expected different names between commas"),
        (("compile", "MODEL", "--labels", ""), "expected different names between commas"),
        (("finetune", "MODEL", "--qat-target", "litert"), "expected --qat beside"),
    ],
)
def test_options_that_would_do_nothing(quillrt, model, quadrants_bundle, arguments, says) -> None:
    places = {"MODEL": model, "BUNDLE": quadrants_bundle}
    code, _, err = quillrt(*(places.get(word, word) for word in arguments))
    assert (code, says in err) == (1, True), err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "eager", "--checkpoint", "models:letters"], "expected the checkpoint that"),
        (["--tolerance", "nan"], "expected a --tolerance of 0 or more, found nan"),
    ],
)
def test_layers_are_those_of_the_bundles_own_network(quillrt, arguments, said) -> None:
    code, out, err = quillrt("verify", "models:digits", "--layers", "--dataset", "digits", *arguments)
    assert (code, out, said in err) == (1, "", True)
