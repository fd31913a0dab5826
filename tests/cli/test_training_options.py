"""Options of train and finetune: taken from the command line and a file, saved, refused in one line."""

import json
import sys

import numpy as np
import pytest
import torch

from quillrt.cli.training_options import OPTIONS
from quillrt.train.checkpoint import load_checkpoint
from quillrt.train.models import build_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

QUICK = ("--classes", "0,1,2", "--per-class", 8)


@pytest.fixture
def config_of(quillrt, tmp_path):
    """Train quickly with some options; return what the checkpoint says of them, and its path."""

    def config_of(*options):
        path = tmp_path / "net.safetensors"
        code, _, err = quillrt("train", *QUICK, *options, "--output", path, "--quiet")
        assert (code, err) == (0, "")
        return load_checkpoint(path).training["config"], path

    return config_of


EVERY = {
    "epochs": 2,
    "batch_size": 7,
    "optimizer": "sgd",
    "lr": 0.004,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 0.01,
    "schedule": "one-cycle",
    "warmup": 0.5,
    "layer_decay": 0.9,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "mse_share": 0.25,
    "clip_norm": 2.0,
    "ema": 0.5,
    "patience": 5,
    "amp": True,
    "seed": 9,
    "device": "cpu",
}


def flags(settings):
    words = []
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    return words


def test_every_setting_arrives_and_is_saved_and_read_back(config_of, quillrt, tmp_path):
    """From the command line; then again from the file beside the checkpoint alone, to the same weights."""
    augmentation = ("--augment", "light", "--vary", "rotation=3", "--vary", "crop=1")
    found, path = config_of(*flags(EVERY), *augmentation)
    assert {name: found[name] for name in EVERY} == EVERY
    amounts = {name: value for name, value in found["augmentation"].items() if value}
    assert amounts == {"rotation": 3, "translation": 0.05, "scale": 0.08, "shear": 0.08, "crop": 1}
    saved = path.with_name(path.name + ".toml")
    table = tomllib.loads(saved.read_text())["train"]
    assert {name: table[name.replace("_", "-")] for name in EVERY} == EVERY
    assert (table["augment"], table["vary"]) == ("light", ["rotation=3", "crop=1"])

    again = tmp_path / "again.safetensors"
    code, _, err = quillrt("train", "--config", saved, "--output", again, "--quiet")
    assert (code, err) == (0, "")
    first, second = load_checkpoint(path), load_checkpoint(again)
    assert second.training["config"] == found
    assert all(torch.equal(second.weights[name], tensor) for name, tensor in first.weights.items())


def test_no_setting_is_forgotten():
    """But for torch.compile, which has a test of its own."""
    others = {"data_root", "classes", "per_class", "synthetic", "augment", "vary", "teacher", "teacher_weight"}
    running = {"temperature", "threads", "resume", "tensorboard", "output", "as_json", "quiet", "config", "debug"}
    assert OPTIONS.keys() - others - running == EVERY.keys() | {"torch_compile"}


def test_the_command_line_goes_before_the_file(config_of, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('[train]\nlr = 0.5\nepochs = 1\nschedule = "linear"\nvary = ["noise=0.1"]\n')
    found, _ = config_of("--config", file, "--lr", 0.001)
    assert (found["lr"], found["epochs"], found["schedule"]) == (0.001, 1, "linear")
    assert found["augmentation"]["noise"] == 0.1


def test_classes_and_images_per_class(quillrt, tmp_path):
    path = tmp_path / "net.safetensors"
    options = ("--classes", "7, 1", "--per-class", 6, "--epochs", 1, "--output", path, "--json")
    code, out, err = quillrt("train", *options)
    assert code == 0, err
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec.labels == ("7", "1")
    assert checkpoint.training["per_class"] == 6
    assert json.loads(out)["n"] == 72  # sevens and ones of the test part
    assert (tmp_path / "net.safetensors.csv").read_text().count("\n") == 2


@pytest.mark.parametrize("model", ["cnn", "quillnet", "rnn"])
def test_another_size(quillrt, tmp_path, model):
    path = tmp_path / "net.safetensors"
    code, _, err = quillrt("train", *QUICK, "--model", model, "--size", 32, "--epochs", 1, "--output", path, "--quiet")
    assert (code, err) == (0, "")
    recipe = load_checkpoint(path).spec.preprocessing
    assert (recipe.height, recipe.width) == (32, 32)
    code, out, err = quillrt("evaluate", path, "--json", "--output", tmp_path / "judged")
    assert code == 0, err
    assert json.loads(out)["n"] > 0


MINE = """
from torch import nn

def build(classes, height, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(height * width, classes))

def wide(classes, height, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(height * width, classes + 1))
"""


def test_a_network_of_the_users_own(quillrt, tmp_path, monkeypatch):
    """It trains, is judged and is tuned where its module lies; elsewhere the line says what to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_net_1.py").write_text(MINE)
    code, _, err = quillrt("train", *QUICK, "--model", "my_net_1:build", "--epochs", 1, "--quiet")
    assert (code, err) == (0, "")
    path = tmp_path / "runs" / "digits-my_net_1.build.safetensors"
    assert load_checkpoint(path).weights["1.weight"].shape == (3, 784)
    code, _, err = quillrt("finetune", path, "--classes", "4,5", "--epochs", 1, "--output", "tuned.safetensors", "-q")
    assert (code, err) == (0, "")
    assert load_checkpoint(tmp_path / "tuned.safetensors").weights["1.weight"].shape == (2, 784)
    code, out, err = quillrt("train", "--model", "my_net_1:wide", "--epochs", 1)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "logits (2, 10) for two images, found (2, 11)" in err
    del sys.modules["my_net_1"]
    (tmp_path / "my_net_1.py").unlink()
    code, out, err = quillrt("evaluate", path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "run where the module lies, or name it in PYTHONPATH" in err


def test_pytorch_weights(quillrt, tmp_path):
    """Of a body that fits and a head that does not; what did not fit is told."""
    path, tuned = tmp_path / "net.pth", tmp_path / "tuned.safetensors"
    weights = build_model("cnn", 26).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, path)
    options = ("--model", "cnn", "--classes", "1,2", "--per-class", 5, "--epochs", 1, "--freeze", "conv*")
    code, _, err = quillrt("finetune", path, *options, "--output", tuned)
    assert code == 0, err
    lines = err.splitlines()
    shapes = "fc2.weight (26, 128), not (2, 128), fc2.bias (26,), not (2,)"
    assert lines[0] == f"{path}: fresh weights, for the file has them in another shape: {shapes}"
    assert lines[1].startswith("epoch 1/1")
    found = load_checkpoint(tuned)
    assert torch.equal(found.weights["conv2.weight"], weights["conv2.weight"])
    assert found.training["started_from"] == {"pth": "net.pth"}
    code, _, err = quillrt("finetune", path, *options, "--freeze", "fc2*", "--output", tmp_path / "none.safetensors")
    assert (code, err.splitlines()[-1].count("leaves fresh weights alone, but 'fc2*' freezes fc2.bias")) == (1, 1)


def test_pytorch_weights_for_images_of_their_own(quillrt, tmp_path):
    path, tuned = tmp_path / "net.pth", tmp_path / "tuned.safetensors"
    torch.save(build_model("cnn", 10, 20, 20).state_dict(), path)
    options = ("--model", "cnn", "--size", 20, "--denoise", "otsu", "--per-class", 2, "--epochs", 1)
    code, _, err = quillrt("finetune", path, *options, "--output", tuned)
    assert (code, "not used" in err) == (0, False), err
    recipe = load_checkpoint(tuned).spec.preprocessing
    assert (recipe.height, recipe.width, recipe.denoise) == (20, 20, ("otsu",))


def test_a_teacher(quillrt, tmp_path):
    """With all of the loss its own, a temperature of 1 and its own network as student there is nothing to learn."""
    path = tmp_path / "teacher.safetensors"
    assert quillrt("train", *QUICK, "--model", "quillnet", "--epochs", 1, "--output", path, "--quiet")[0] == 0
    other = path.with_name("again.safetensors")
    other.write_bytes(path.read_bytes())
    teaching = ("--teacher", path, "--teacher", other, "--teacher-weight", 1, "--temperature", 1)
    options = (*teaching, "--lr", 1e-9, "--epochs", 1)
    code, _, err = quillrt("finetune", path, *QUICK, *options, "--head-only", "-o", tmp_path / "s.safetensors", "-q")
    assert (code, err) == (0, "")
    training = load_checkpoint(tmp_path / "s.safetensors").training
    assert training["teacher"] == ["teacher.safetensors", "again.safetensors"]
    assert f'teacher = ["{path}", "{other}"]' in (tmp_path / "s.safetensors.toml").read_text()
    assert training["history"][0]["loss"] < 0.05  # the student's dropout is all that parts them


def test_tensorboard_has_every_epoch(quillrt, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the package tensorboard"
    )
    path, board = tmp_path / "net.safetensors", tmp_path / "board"
    code, _, err = quillrt("train", *QUICK, "--epochs", 2, "--tensorboard", board, "--output", path, "--quiet")
    assert (code, err) == (0, "")
    events = event_accumulator.EventAccumulator(str(board)).Reload()
    found = [scalar.value for scalar in events.Scalars("validation_loss")]
    history = load_checkpoint(path).training["history"]
    np.testing.assert_allclose(found, [epoch["validation_loss"] for epoch in history], rtol=1e-6)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint of fresh weights for the digits."""
    from quillrt.runtime.spec import character_spec
    from quillrt.train.checkpoint import Checkpoint, save_checkpoint
    from quillrt.train.datasets import load_dataset

    digits = load_dataset("digits")
    spec = character_spec(digits.classes, digits.preprocessing)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_checkpoint(path, Checkpoint.of("cnn", spec, build_model("cnn", 10).state_dict(), {"dataset": "digits"}))
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("train", "--schedule", "step"), 1, "schedule one of constant, linear"),
        (("train", "--class-weights", "some"), 1, "class weights one of none, balanced"),
        (("train", "--nesterov"), 1, "add --optimizer sgd --momentum 0.9"),
        (("train", "--warmup", "15"), 1, "warm-up must be at least 0 and below 15"),
        (("train", "--ema", "1"), 1, "decay of the average must be in 0..1"),
        (("train", "--lr", "nan"), 1, "lr must be in 0"),
        (("train", "--augment", "wild"), 1, "an augmentation out of none, light, strong, photo"),
        (("train", "--vary", "tilt=1"), 1, "found 'tilt=1'"),
        (("train", "--size", "5"), 2, "'--size'"),
        (("train", "--per-class", "0"), 2, "'--per-class'"),
        (("train", "--per-class", "1000"), 1, "images per class"),
        (("train", "--classes", "1"), 1, "two or more different classes"),
        (("train", "--classes", "1,1"), 1, "two or more different classes"),
        (("train", "--classes", "1,x"), 1, "two or more different classes"),
        (("train", "--synthetic", "none"), 1, "none"),
        (("train", "--teacher", "none.safetensors"), 1, "check the path"),
        (("train", "--teacher", "BASE", "--teacher", "none.safetensors"), 1, "check the path"),
        (("train", "--teacher", ""), 1, "is a folder; check the path"),
        (("train", "--teacher", "models:digits", "--teacher", "BASE", "-o", "BASE"), 1, "another file than is read"),
        (("finetune", "BASE", "-o", "BASE"), 1, "another file than is read"),
        (("train", "--teacher", "BASE", "--classes", "1,2"), 1, "choose another --teacher or --classes"),
        (("train", "--teacher", "BASE", "--size", "32"), 1, "height, width and denoising"),
        (("train", "--teacher-weight", "nan"), 1, "expected --teacher beside --teacher-weight"),
        (("train", "--temperature", "2"), 1, "expected --teacher beside --teacher-weight"),
        (("train", "--teacher-weight", "2"), 2, "'--teacher-weight'"),
        (("train", "--teacher", "BASE", "--teacher-weight", "nan"), 1, "expected as weight of a teacher 0..1"),
        (("train", "--teacher", "BASE", "--temperature", "nan"), 1, "a positive temperature, found 0.5 and nan"),
        (("train", "--lr", "1e38"), 1, "lr must be in 0..1e+36"),
        (("train", "--device", "tpu"), 1, "device one of auto, cpu, cuda"),
        (("train", "--model", "no_such_module:build"), 1, "run where the module lies"),
        (("finetune", "BASE", "--model", "cnn"), 1, "expected --model beside PyTorch weights"),
        (("finetune", "net.pth"), 1, "expected --model beside PyTorch weights"),
        (("finetune", "net.pth", "--model", "cnn"), 1, "check the path"),
        (("finetune", "BASE", "--size", "32"), 1, "--size and --denoise beside PyTorch weights (.pth) only"),
        (("finetune", "BASE", "--denoise", "otsu"), 1, "--size and --denoise beside PyTorch weights (.pth) only"),
        (("finetune", "BASE", "--head-only", "--unfreeze-every", "2"), 1, "found both; leave one out"),
        (("finetune", "BASE", "--head-only", "--freeze", "fc2*"), 1, "all are frozen"),
        (
            ("finetune", "BASE", "--unfreeze-every", "1", "--freeze", "fc2*"),
            1,
            "in the first epoch, but all are frozen",
        ),
        (("finetune", "BASE", "--unfreeze-every", "-1"), 2, "'--unfreeze-every'"),
    ],
)
def test_bad_input_ends_in_one_line(base, quillrt, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    got, out, err = quillrt(*(base if word == "BASE" else word for word in arguments))
    assert (got, out) == (code, "")
    assert says in err
    if code == 1:
        assert err.startswith("quillrt: error: ")
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
