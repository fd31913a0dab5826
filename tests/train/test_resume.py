"""A training that was interrupted goes on to the weights of one that was not."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from quillrt.runtime.errors import CheckpointError
from quillrt.train.config import TrainConfig
from quillrt.train.finetuning import finetune
from quillrt.train.freezing import Freezing
from quillrt.train.policies import policy
from quillrt.train.state import load_state, save_state
from quillrt.train.training import Surroundings, train_new

CONFIG = TrainConfig(
    epochs=3,
    batch_size=50,
    augmentation=policy("photo"),
    schedule="one-cycle",
    ema=0.9,
    label_smoothing=0.1,
    clip_norm=1,
    device="cpu",
)


class Stop(Exception):  # noqa: N818 - no error, a stand-in for a killed process
    """Ends a training after an epoch."""


def after(epochs):
    def stop(checkpoint):
        if len(checkpoint.training["history"]) == epochs:
            raise Stop

    return stop


def same(first, second):
    return all(torch.equal(first.weights[name], tensor) for name, tensor in second.weights.items())


@pytest.mark.parametrize("changes", [{}, {"patience": 2}, {"amp": True, "optimizer": "sgd"}], ids=str)
def test_resumed_weights_are_bit_equal(few_digits, tmp_path, changes):
    config, state = replace(CONFIG, **changes), tmp_path / "training.state"
    whole = train_new("quillnet", few_digits, config)
    with pytest.raises(Stop):
        train_new("quillnet", few_digits, config, Surroundings(state=state), after(1))
    assert state.exists()
    resumed = train_new("quillnet", few_digits, config, Surroundings(state=state, resume=True))
    assert same(whole, resumed)
    untimed = [{**epoch, "seconds": 0} for epoch in whole.training["history"]]
    assert [{**epoch, "seconds": 0} for epoch in resumed.training["history"]] == untimed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stopped_after", [1, 2, 4])
def test_a_plateau_goes_on_waiting_where_it_was(few_digits, tmp_path, stopped_after):
    """At so low a rate no weight moves, so that no loss is lower than the first: halved for epochs four and six.

    Whoever forgot that loss, the epochs waited or the first halving, would halve at other times.
    """
    config = TrainConfig(epochs=6, optimizer="sgd", lr=1e-30, schedule="plateau", device="cpu")
    state = tmp_path / "training.state"
    with pytest.raises(Stop):
        train_new("rnn", few_digits, config, Surroundings(state=state), after(stopped_after))
    resumed = train_new("rnn", few_digits, config, Surroundings(state=state, resume=True))
    rates = [epoch["lr"] for epoch in resumed.training["history"]]
    assert rates == pytest.approx([1e-30, 1e-30, 1e-30, 5e-31, 5e-31, 2.5e-31], rel=1e-9, abs=0)


def test_without_resume_it_starts_anew(few_digits, tmp_path):
    state = tmp_path / "training.state"
    with pytest.raises(Stop):
        train_new("quillnet", few_digits, CONFIG, Surroundings(state=state), after(2))
    numbers = []

    def count(checkpoint):
        numbers.append(len(checkpoint.training["history"]))

    train_new("quillnet", few_digits, CONFIG, Surroundings(state=state), count)
    assert numbers == [1, 2, 3]


def test_gradual_unfreezing_resumes_too(untrained, few_digits, tmp_path):
    state, freezing = tmp_path / "training.state", Freezing(unfreeze_every=1)
    whole = finetune(untrained, few_digits, CONFIG, freezing)
    with pytest.raises(Stop):
        finetune(untrained, few_digits, CONFIG, freezing, surroundings=Surroundings(state=state), on_epoch=after(1))
    again = Surroundings(state=state, resume=True)
    assert same(whole, finetune(untrained, few_digits, CONFIG, freezing, surroundings=again))


def test_a_state_of_another_training_is_refused(few_digits, tmp_path):
    state = tmp_path / "training.state"
    with pytest.raises(Stop):
        train_new("quillnet", few_digits, CONFIG, Surroundings(state=state), after(1))
    again = Surroundings(state=state, resume=True)
    with pytest.raises(CheckpointError, match=r"lr 0\.002 there and 0\.01 here"):
        train_new("quillnet", few_digits, replace(CONFIG, lr=0.01), again)
    with pytest.raises(CheckpointError, match="network"):
        train_new("cnn", few_digits, CONFIG, again)
    fewer = replace(few_digits, train=few_digits.train.take(np.arange(100)))
    with pytest.raises(CheckpointError, match="training images 128 there and 100 here"):
        train_new("quillnet", fewer, CONFIG, again)
    assert state.exists()
    for damage in (b"", b"no state", state.read_bytes()[:-1000]):
        state.write_bytes(damage)
        with pytest.raises(CheckpointError, match="is damaged"):
            train_new("quillnet", few_digits, CONFIG, again)


def test_patience_keeps_the_best_epoch_and_stops(few_digits):
    """With a huge rate the weights only get worse: the best epoch is over soon, and what is kept is its weights."""
    seen = []
    config = TrainConfig(epochs=30, patience=2, optimizer="sgd", lr=0.5, schedule="constant", device="cpu")
    kept = train_new("quillnet", few_digits, config, on_epoch=seen.append)
    shares = [epoch["validation_accuracy"] for epoch in kept.training["history"]]
    best = int(np.argmax(shares))
    assert len(shares) == best + 1 + 2 < 30
    assert same(kept, seen[best])


def test_no_damaged_byte_of_a_state_ends_in_another_error(tmp_path):
    state = tmp_path / "training.state"
    save_state(state, {"lr": 0.1}, {"weights": torch.arange(4.0)})
    whole = state.read_bytes()
    for position in range(0, len(whole), 3):
        state.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        with suppress(CheckpointError):
            load_state(state, {"lr": 0.1})
