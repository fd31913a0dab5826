"""The transfer benchmark on few small trainings: what is trained, what is not trained twice, what the table says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from quillrt.benchmarks import transfer
from quillrt.benchmarks.transfer import WAYS, Plan, Trained, read_rows, results, table
from quillrt.runtime.errors import DataError
from quillrt.train.checkpoint import save_checkpoint
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import load_dataset
from quillrt.train.training import train_new


@pytest.fixture(scope="module")
def plan():
    splits = load_dataset("digits")
    start = train_new("cnn", splits.only(["0", "1", "2", "3"]), TrainConfig(epochs=1))
    return Plan(start, "digits", splits, steps=3, gan_steps=1)


def trained(way, per_class, synthetic, seed, accuracy, settings=None):
    return Trained(way, per_class, synthetic, seed, accuracy, 10, 1.0, settings or {}, "")


def test_trains_every_way_with_and_without_synthetic_images(plan):
    rows = list(results(plan, [2], [0], []))
    assert [(row.way, row.synthetic) for row in rows] == [(way, n) for n in (0, 2) for way in WAYS]
    assert {row.n for row in rows} == {len(plan.splits.test)}
    assert all(0 <= row.accuracy <= 1 and row.seconds > 0 for row in rows)


def test_trains_nothing_twice(plan):
    first = next(results(plan, [2], [0], []))
    done = [trained(way, 2, n, 0, 0.5, first.settings) for way in WAYS for n in (0, 2) if (way, n) != ("gradual", 0)]
    (row,) = results(plan, [2], [0], done)
    assert (row.way, row.synthetic) == ("gradual", 0)
    with pytest.raises(DataError, match="give another --output"):
        next(results(replace(plan, steps=4), [2], [0], done))


@pytest.mark.parametrize(("way", "layers"), [("gradual", {"fc1", "conv2"}), ("head only", set())])
def test_thaws_one_layer_an_epoch_or_none(plan, way, layers):
    """Of the three epochs that are the least, the first has the new head alone."""
    found, _ = plan.trained(way, plan.images(2, 0), 0, 1e-2)
    old = plan.start.weights
    moved = {name for name, tensor in found.weights.items() if not torch.equal(tensor[:4], old[name][:4])}
    assert {name.split(".")[0] for name in moved} == layers | {"fc2"}


def test_searches_rates_on_the_validation_part(plan, monkeypatch):
    seen = []
    monkeypatch.setattr(transfer, "_accuracy", lambda checkpoint, images: seen.append(images) or (0.5, 1))
    found = list(transfer.searched(plan, 1, 0))
    assert [way for way, _, _ in found] == [way for way in WAYS for _ in range(3)]
    assert all(images is plan.splits.validation for images in seen)


def test_generates_from_the_few_real_images_alone(plan, monkeypatch):
    seen = []
    monkeypatch.setattr(transfer, "train_gan", lambda real, config: seen.append(real) or FakeGan())

    class FakeGan:
        def draw(self, count, seed):
            return seen[0].take(np.arange(0))

    plan.generated(plan.images(3, 1), 1)
    assert np.bincount(seen[0].labels).tolist() == [3] * 10


def test_table_gives_means_and_extremes_all_images_last():
    rows = [
        trained("scratch", 0, 0, 0, 0.9),
        trained("scratch", 5, 0, 0, 0.5),
        trained("scratch", 5, 0, 1, 0.7),
        trained("head only", 5, 5, 0, 0.25),
    ]
    assert table(rows).splitlines()[2:] == [
        "| 5 | 60.0 (50.0 to 70.0; 2) |  |  |  |",
        "| 5 and synthetic |  |  | 25.0 (25.0 to 25.0; 1) |  |",
        "| all | 90.0 (90.0 to 90.0; 1) |  |  |  |",
    ]


def test_goes_on_with_what_is_written(tmp_path, plan, script):
    save_checkpoint(tmp_path / "start.safetensors", plan.start)
    lines = tmp_path / "rows.jsonl"
    command = ["--start", str(tmp_path / "start.safetensors"), "--output", str(lines), "--dataset", "digits"]
    command += ["--per-class", "2", "--seed", "0", "--steps", "2", "--gan-steps", "1"]
    first = script(transfer.main, *command)
    assert first.exit_code == 0, first.output
    whole = lines.read_text()
    lines.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert script(transfer.main, *command).exit_code == 0
    again = [json.loads(line) for line in lines.read_text().splitlines()]
    before = [json.loads(line) for line in whole.splitlines()]
    assert [row | {"seconds": 0, "machine": ""} for row in again] == [
        row | {"seconds": 0, "machine": ""} for row in before
    ]


def test_refuses_lines_of_another_kind(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"way": "scratch"}\n')
    with pytest.raises(DataError, match="remove it"):
        read_rows(tmp_path / "rows.jsonl")
    assert read_rows(tmp_path / "none.jsonl") == []
