"""Two processes that train as one."""

import csv
import subprocess
import sys

import pytest
import torch

from quillrt.train.checkpoint import load_checkpoint

NETWORK = """
from torch import nn

def network(classes, height, width):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, classes),
    )
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same training by one process and by two: folder, exit's stderr of the two."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "mine.py").write_text(NETWORK)
    # 1,079 images in batches of 50 leave 29, an odd number: the shares of a batch differ in size.
    options = ["train", "--model", "mine:network", "--epochs", "3", "--batch-size", "50", "--optimizer", "sgd"]
    options += ["--lr", "0.1", "--class-weights", "balanced", "--threads", "1", "--json"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, how in (("one", []), ("two", launch)):
        command = [sys.executable, *how, "-m", "quillrt.cli", *options, "-o", f"{name}/model.safetensors"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('"accuracy"') == 1  # one process tells
    return folder


def rows(folder):
    with (folder / "model.safetensors.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_losses_and_validation_are_those_of_one_process(trained):
    one, two = rows(trained / "one"), rows(trained / "two")
    assert len(one) == len(two) == 3
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-2)
        assert together["accuracy"] == pytest.approx(alone["accuracy"], abs=0.005)
        assert together["validation_accuracy"] == pytest.approx(alone["validation_accuracy"], abs=0.01)
    assert one[-1]["loss"] < one[0]["loss"]


def test_weights_and_batch_statistics_are_those_of_one_process(trained, monkeypatch):
    monkeypatch.chdir(trained)
    one, two = (load_checkpoint(trained / name / "model.safetensors").weights for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0.02, atol=0.005)


def test_nothing_but_the_first_process_writes(trained):
    written = {file.name for file in (trained / "two").iterdir()}
    assert written == {f"model.safetensors{suffix}" for suffix in ("", ".csv", ".png", ".toml")}
