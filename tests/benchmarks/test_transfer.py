"""The transfer benchmark on few small trainings: what is trained, what is not trained twice, what the table says."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from quillrt.benchmarks import transfer
from quillrt.benchmarks.transfer import WAYS, Plan, Trained, read_rows, results, table
from quillrt.runtime.errors import DataError
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import load_dataset
from quillrt.train.training import train_new


@pytest.fixture(scope="module")
def plan():
    splits = load_dataset("digits")
    start = train_new("cnn", splits.only(["0", "1", "2", "3"]), TrainConfig(epochs=1))
    return Plan(start, splits, steps=3, gan_steps=1)


def test_trains_every_way_with_and_without_synthetic_images(plan):
    rows = list(results(plan, [2], [0], []))
    assert [(row.way, row.synthetic) for row in rows] == [(way, n) for n in (0, 2) for way in WAYS]
    assert {row.n for row in rows} == {len(plan.splits.test)}
    assert all(0 <= row.accuracy <= 1 and row.seconds > 0 for row in rows)


def test_trains_nothing_twice(plan):
    done = [Trained(way, 2, n, 0, 0.5, 10, 1.0) for way in WAYS for n in (0, 2) if (way, n) != ("gradual", 0)]
    (row,) = results(plan, [2], [0], done)
    assert (row.way, row.synthetic) == ("gradual", 0)


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
        Trained("scratch", 0, 0, 0, 0.9, 10, 1.0),
        Trained("scratch", 5, 0, 0, 0.5, 10, 1.0),
        Trained("scratch", 5, 0, 1, 0.7, 10, 1.0),
        Trained("head only", 5, 5, 0, 0.25, 10, 1.0),
    ]
    assert table(rows).splitlines()[2:] == [
        "| 5 | 60.0 (50.0 to 70.0; 2) |  |  |  |",
        "| 5 and synthetic |  |  | 25.0 (25.0 to 25.0; 1) |  |",
        "| all | 90.0 (90.0 to 90.0; 1) |  |  |  |",
    ]


def test_goes_on_with_what_is_written(tmp_path, plan):
    from quillrt.train.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "start.safetensors", plan.start)
    lines = tmp_path / "rows.jsonl"
    command = ["--start", str(tmp_path / "start.safetensors"), "--output", str(lines), "--dataset", "digits"]
    command += ["--per-class", "2", "--seeds", "0", "--steps", "2", "--gan-steps", "1"]
    import typer

    app = typer.Typer()
    app.command()(transfer.main)
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    whole = lines.read_text()
    lines.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert CliRunner().invoke(app, command).exit_code == 0
    again = [json.loads(line) for line in lines.read_text().splitlines()]
    before = [json.loads(line) for line in whole.splitlines()]
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in before]


def test_refuses_lines_of_another_kind(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"way": "scratch"}\n')
    with pytest.raises(DataError, match="remove it"):
        read_rows(tmp_path / "rows.jsonl")
    assert read_rows(tmp_path / "none.jsonl") == []
