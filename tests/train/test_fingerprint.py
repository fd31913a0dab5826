"""What a training's state belongs to, and what is no state."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from quillrt.runtime.errors import CheckpointError
from quillrt.train.config import TrainConfig
from quillrt.train.freezing import Freezing
from quillrt.train.models import build_model
from quillrt.train.seeding import seeded
from quillrt.train.teaching import Ensemble, Teacher
from quillrt.train.training import Surroundings, train

PLAIN = TrainConfig(epochs=3, device="cpu")


class StopError(Exception):
    """What stops a training in the tests."""


def net(splits, name):
    with seeded(4):
        return build_model(name, len(splits.classes))


def stop_after(epochs):
    def on_epoch(history, weights):
        if len(history) == epochs:
            raise StopError

    return on_epoch


def interrupted(module, splits, config, path, epochs=1, **others):
    with pytest.raises(StopError):
        train(module, splits, config, Surroundings(state=path), stop_after(epochs), **others)
    assert path.exists()


def test_a_training_stopped_after_its_last_epoch_only_ends(few_digits, tmp_path):
    path = tmp_path / "net.state"
    whole = net(few_digits, "cnn")
    train(whole, few_digits, PLAIN)
    interrupted(net(few_digits, "cnn"), few_digits, PLAIN, path, 3)
    resumed, told = net(few_digits, "cnn"), []
    history = train(resumed, few_digits, PLAIN, Surroundings(state=path, resume=True), lambda *_: told.append(1))
    assert (len(history), told) == (3, [])
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


@pytest.fixture
def stopped(few_digits, tmp_path):
    """The state of a training stopped after its first of three epochs."""
    path = tmp_path / "net.state"
    interrupted(net(few_digits, "cnn"), few_digits, PLAIN, path)
    return path


def brighter(part):
    images = part.images.copy()
    images[0, 0, 0] ^= 1  # one bit of one image
    return replace(part, images=images)


def other_start():
    with seeded(5):
        return build_model("cnn", 10)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("training", "training data"),
        ("validation", "validation data"),
        ("fewer", "training images 128 there and 127 here"),
        ("network", "network"),
        ("weights", "start weights"),
        ("freezing", "head_only False there and True here"),
        ("teacher", "teacher None there"),
    ],
)
def test_other_data_or_another_network_is_refused(few_digits, stopped, what, says):
    splits, module, freezing, teacher = few_digits, net(few_digits, "cnn"), Freezing(), None
    if what == "training":
        splits = replace(splits, train=brighter(splits.train))
    elif what == "validation":
        splits = replace(splits, validation=brighter(splits.validation))
    elif what == "fewer":
        splits = replace(splits, train=splits.train.take(np.arange(127)))
    elif what == "network":
        module = net(few_digits, "quillnet")
    elif what == "weights":
        module = other_start()
    elif what == "freezing":
        freezing = Freezing(head_only=True)
    else:
        teacher = Teacher(Ensemble([(other_start(), 0.1, 0.3)]))
    with pytest.raises(CheckpointError, match=says):
        train(module, splits, PLAIN, Surroundings(state=stopped, resume=True, teacher=teacher), freezing=freezing)


def test_another_teacher_is_refused(few_digits, tmp_path):
    path = tmp_path / "net.state"
    teacher = Teacher(Ensemble([(other_start(), 0.1, 0.3)]))
    with pytest.raises(StopError):
        train(net(few_digits, "cnn"), few_digits, PLAIN, Surroundings(state=path, teacher=teacher), stop_after(1))
    others = ([(other_start(), 0.1, 0.4)], [(net(few_digits, "cnn"), 0.1, 0.3)], 2 * [(other_start(), 0.1, 0.3)])
    for other in (replace(teacher, temperature=2.0), *(Teacher(Ensemble(members)) for members in others)):
        with pytest.raises(CheckpointError, match="teacher"):
            train(net(few_digits, "cnn"), few_digits, PLAIN, Surroundings(state=path, resume=True, teacher=other))
    train(net(few_digits, "cnn"), few_digits, PLAIN, Surroundings(state=path, resume=True, teacher=teacher))


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        torch.zeros(3),
        {"schema": 1},
        {"schema": 1, "mark": 3, "state": {}},
        {"schema": 1, "mark": {}, "state": {}},
        nn.Linear(1, 1),
    ],
)
def test_other_files_of_torch_are_refused(few_digits, stopped, content):
    torch.save(content, stopped)
    with pytest.raises(CheckpointError):
        train(net(few_digits, "cnn"), few_digits, PLAIN, Surroundings(state=stopped, resume=True))


def test_a_newer_schema_is_refused(few_digits, stopped):
    torch.save({**torch.load(stopped, weights_only=True), "schema": 2}, stopped)
    with pytest.raises(CheckpointError, match="schema 1, found 2"):
        train(net(few_digits, "cnn"), few_digits, PLAIN, Surroundings(state=stopped, resume=True))


def test_a_state_that_cannot_be_written_leaves_nothing(few_digits, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        train(net(few_digits, "cnn"), few_digits, PLAIN, Surroundings(state=tmp_path / "file" / "net.state"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
