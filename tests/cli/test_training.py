import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quillrt.train.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of one epoch on the digits, and what `train` said about it."""
    path = tmp_path_factory.mktemp("trained") / "base.safetensors"
    command = [sys.executable, "-m", "quillrt.cli", "train", "--epochs", "1", "--seed", "3", "--threads", "1"]
    done = subprocess.run([*command, "--output", path, "--json"], capture_output=True, text=True, check=True)
    return path, json.loads(done.stdout), done.stderr


def test_train_writes_a_checkpoint_and_tells_its_accuracy(trained):
    path, said, err = trained
    assert said.keys() == {"path", "accuracy", "n", "seconds", "parameters"}
    assert (said["path"], said["n"], said["parameters"]) == (str(path), 359, 1_199_882)
    assert 0.5 < said["accuracy"] < 1  # guessing gives 0.1
    assert err.startswith("epoch 1/1: loss ")
    checkpoint = load_checkpoint(path)
    assert checkpoint.training["dataset"] == "digits"
    assert checkpoint.training["config"]["seed"] == 3


def test_config_beside_the_checkpoint_repeats_the_training(trained, quillrt, tmp_path):
    path, said, _ = trained
    again = tmp_path / "again.safetensors"
    code, out, err = quillrt("train", "--config", path.with_name(path.name + ".toml"), "--output", again, "--quiet")
    assert (code, err) == (0, "")
    assert json.loads(out)["accuracy"] == said["accuracy"]
    first, second = load_checkpoint(path), load_checkpoint(again)
    assert all((second.weights[name] == tensor).all() for name, tensor in first.weights.items())


def test_evaluate_agrees_with_train(trained, quillrt, tmp_path):
    path, said, _ = trained
    folder = tmp_path / "evaluation"
    code, out, err = quillrt("evaluate", path, "--output", folder, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["accuracy"], report["n"]) == (said["accuracy"], said["n"])
    assert np.trace(report["confusion"]) == round(said["accuracy"] * said["n"])
    assert json.loads((folder / "evaluation.json").read_text()) == report
    with Image.open(folder / "confusion.png") as image:
        assert image.format == "PNG"


def test_evaluate_shows_a_table_of_another_part(trained, quillrt):
    code, out, _ = quillrt("evaluate", trained[0], "--part", "validation")
    assert code == 0
    assert "validation" in out
    assert "base.safetensors on digits (validation): " in out
    rows = [line.split()[:2] for line in out.splitlines()]
    assert rows[rows.index(["macro", "359"]) + 1] == ["weighted", "359"]


def test_finetune_on_some_classes_with_frozen_layers(trained, quillrt, tmp_path):
    base, tuned = trained[0], tmp_path / "tuned.safetensors"
    options = ("--classes", "3, 8", "--freeze", "conv1.*", "--freeze", "conv2.*", "--epochs", 1, "--output", tuned)
    code, out, err = quillrt("finetune", base, *options, "--json")
    assert code == 0, err
    before, after = load_checkpoint(base), load_checkpoint(tuned)
    assert after.spec.labels == ("3", "8")
    for name in before.weights:
        same = name.startswith("conv")
        assert (after.weights[name].shape == before.weights[name].shape) == (not name.startswith("fc2"))
        if not name.startswith("fc2"):
            assert bool((after.weights[name] == before.weights[name]).all()) == same
    code, judged, err = quillrt("evaluate", tuned, "--json")
    assert code == 0, err
    assert json.loads(judged)["accuracy"] == json.loads(out)["accuracy"]


def test_default_outputs_lie_in_runs(quillrt, draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "my letters" / name).mkdir(parents=True)
        for i in range(4):
            draw(Path("my letters", name, f"{i}.png"), i)
    code, out, err = quillrt("train", "--dataset", "folder:my letters", "--epochs", 1)
    assert code == 0, err
    assert "runs/my letters-cnn.safetensors" in out
    code, out, err = quillrt(
        "finetune", "runs/my letters-cnn.safetensors", "--dataset", "folder:my letters", "--epochs", 1
    )
    assert code == 0, err
    names = ("my letters-cnn-on-my letters.safetensors", "my letters-cnn.safetensors")
    written = {f"{name}{suffix}" for name in names for suffix in ("", ".csv", ".png", ".toml")}
    assert {file.name for file in Path("runs").iterdir()} == written


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_evaluate_a_bundle_on_a_backend(quadrants_bundle, draw, quillrt, tmp_path, backend):
    """The classifier is right on every quadrant, but the images of `se` show `nw`."""
    for name, k in {"nw": 0, "ne": 1, "sw": 2, "se": 0}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            draw(tmp_path / "images" / name / f"{i}.png", k)
    images = f"folder:{tmp_path / 'images'}"
    options = ("--dataset", images, "--backend", backend, "--json")
    code, out, err = quillrt("evaluate", quadrants_bundle, *options)
    assert code == 0, err
    report = json.loads(out)
    assert report["accuracy"] == 0.75
    assert report["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("train", "--dataset", "nope"), 1, "expected a data set out of digits, mnist"),
        (("train", "--model", "resnet"), 1, "expected a model out of cnn"),
        (("train", "--optimizer", "magic"), 1, "optimizer one of adamw, sgd"),
        (("train", "--epochs", "0"), 1, "at least 1"),
        (("train", "--epochs", "many"), 2, "'--epochs'"),
        (("train", "--output", "model.pth"), 1, "ends in .safetensors"),
        (("train", "--dataset", "folder:none"), 1, "check the path"),
        (("finetune", "none.safetensors"), 1, "check the path"),
        (("finetune", "BASE", "--freeze", "layer*"), 1, "expected a pattern that matches one of conv1.weight"),
        (("finetune", "BASE", "--classes", "1,x"), 1, "two or more different classes"),
        (("evaluate", "BASE", "--part", "exam"), 1, "train, validation, test"),
        (("evaluate", "BASE", "--precision", "int8"), 1, "compile it first"),
        (("evaluate", "BASE", "--backend", "openvino"), 1, "expected a backend out of eager"),
        (("evaluate", "model.onnx"), 1, "a bundle (.quill)"),
        (("evaluate", "none.quill"), 1, "none.quill"),
    ],
)
def test_bad_input_ends_in_one_line(trained, quillrt, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    got, out, err = quillrt(*(str(trained[0]) if word == "BASE" else word for word in arguments))
    assert (got, out) == (code, "")
    assert says in err
    if code == 1:
        assert err.startswith("quillrt: error: ")
        assert err.count("\n") == 1


def test_no_permission_is_told_before_training(quillrt, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = quillrt("train", "--output", tmp_path / "file" / "model.safetensors")
    assert code == 1
    assert "epoch" not in err
    assert "no folder that can be written" in err


@pytest.mark.data
@pytest.mark.slow
def test_letters_on_a_digits_network(trained, quillrt, tmp_path):
    """Transfer to real letters: EMNIST's A, B, C by a network that has only seen digits."""
    if not Path(os.environ.get("QUILLRT_DATA", "none"), "EMNIST").is_dir():
        pytest.skip("no EMNIST in QUILLRT_DATA")
    options = ("--dataset", "emnist-letters", "--classes", "A,B,C", "--freeze", "conv*", "--epochs", 1)
    code, out, err = quillrt("finetune", trained[0], *options, "--output", tmp_path / "t.safetensors", "--json")
    assert code == 0, err
    assert json.loads(out)["accuracy"] > 0.9


def test_a_model_of_other_classes_than_the_data_set(quadrants_bundle, quillrt):
    code, out, err = quillrt("evaluate", quadrants_bundle, "--dataset", "digits")
    assert (code, out) == (1, "")
    assert "found digits without nw ne sw se" in err
    assert err.count("\n") == 1


def test_a_folder_is_not_remembered_by_its_path(trained, quillrt, draw, tmp_path):
    for label in ("a", "b"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for i in range(5):
            draw(tmp_path / "mine" / label / f"{i}.png", i % 4)
    path = tmp_path / "mine.safetensors"
    code, _, err = quillrt("train", "--dataset", f"folder:{tmp_path / 'mine'}", "--epochs", 1, "-o", path, "--quiet")
    assert code == 0, err
    assert str(tmp_path).encode() not in path.read_bytes()
    code, _, err = quillrt("evaluate", path)
    assert (code, "trained on a folder called 'mine'" in err) == (1, True)


def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    """SIGKILL in an epoch after the first; then SIGINT, which says how to go on; then to the end."""
    options = ["train", "--model", "quillnet", "--epochs", "4", "--augment", "light", "--ema", "0.99", "--threads", "1"]

    def command(name, *more):
        return [sys.executable, "-m", "quillrt.cli", *options, "-o", str(tmp_path / name / "m.safetensors"), *more]

    subprocess.run(command("whole"), check=True, capture_output=True)
    errors = []
    for stop, more in ((signal.SIGKILL, ()), (signal.SIGINT, ("--resume",))):
        process = subprocess.Popen(command("cut", *more), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = process.stderr.readline()  # told after an epoch's files are written
        time.sleep(0.3)
        process.send_signal(stop)
        errors.append(line + process.communicate(timeout=60)[1])
    assert errors[0].startswith("epoch 1/4")
    assert errors[1].startswith("epoch 2/4")
    assert process.returncode == 130
    assert "--resume goes on after the last whole epoch" in errors[1]
    assert "Traceback" not in errors[1]
    subprocess.run(command("cut", "--resume"), check=True, capture_output=True)
    whole, cut = (load_checkpoint(tmp_path / name / "m.safetensors") for name in ("whole", "cut"))
    assert all((whole.weights[name] == tensor).all() for name, tensor in cut.weights.items())
    assert {file.name for file in (tmp_path / "cut").iterdir()} == {
        f"m.safetensors{suffix}" for suffix in ("", ".csv", ".png", ".toml")
    }


def test_pytorch_weights_start_a_fine_tuning(trained, quillrt, tmp_path):
    import torch

    weights = {**load_checkpoint(trained[0]).weights, "extra": torch.zeros(2)}
    torch.save({"state_dict": weights}, tmp_path / "mnist_cnn.pth")
    output = tmp_path / "tuned.safetensors"
    options = ("finetune", tmp_path / "mnist_cnn.pth", "--epochs", 1, "--head-only", "-o", output)
    code, _, err = quillrt(*options, "--model", "cnn", "--json")
    assert code == 0, err
    assert "not used: extra" in err
    tuned = load_checkpoint(output)
    assert (tuned.weights["fc1.weight"] == weights["fc1.weight"]).all()
    assert not (tuned.weights["fc2.weight"] == weights["fc2.weight"]).all()
    code, _, err = quillrt(*options)
    assert (code, "expected --model beside PyTorch weights" in err) == (1, True)


def test_few_images_a_teacher_another_size_and_denoising(trained, quillrt, tmp_path):
    output = tmp_path / "student.safetensors"
    code, _, err = quillrt(*("train", "--per-class", 5, "--teacher", trained[0], "--epochs", 1, "-o", output, "--json"))
    assert code == 0, err
    assert load_checkpoint(output).training["per_class"] == 5
    assert load_checkpoint(output).training["teacher"] == ["base.safetensors"]
    code, _, err = quillrt(
        *("train", "--model", "quillnet", "--size", 32, "--denoise", "median", "--denoise", "levels"),
        *("--per-class", 5, "--epochs", 1, "-o", output, "--json"),
    )
    assert code == 0, err
    recipe = load_checkpoint(output).spec.preprocessing
    assert (recipe.height, recipe.width, recipe.denoise) == (32, 32, ("median", "levels"))
    code, _, err = quillrt("train", "--size", 32, "--teacher", trained[0], "-o", output)
    assert (code, "expected a teacher for images of" in err) == (1, True)


def test_training_for_int8_is_what_compile_makes_of_it(trained, quillrt, tmp_path):
    tuned, bundle = tmp_path / "qat.safetensors", tmp_path / "qat.quill"
    arguments = ("finetune", trained[0], "--qat", "--epochs", 1, "--output", tuned, "--quiet")
    code, out, err = quillrt(*arguments, "--json")
    assert code == 0, err
    trained_accuracy = json.loads(out)["int8_validation_accuracy"]
    code, out, err = quillrt(
        "compile", tuned, "--precision", "int8", "--target", "onnxruntime-cpu", "-o", bundle, "--json"
    )
    assert code == 0, err
    found = {v["path"]: v for v in json.loads(out)["verdicts"] if v["backend"] == "onnxruntime-cpu"}
    assert found["model.int8.cpu.onnx"]["accuracy"] == pytest.approx(trained_accuracy, abs=0.01)
    _, out, _ = quillrt("inspect", bundle)
    assert "4 ranges as trained" in out
    code, _, err = quillrt(*arguments, "--qat-target", "abacus")
    assert (code, "expected a target out of" in err) == (1, True)
