from dataclasses import replace

import numpy as np
import pytest
import torch

from quillrt.runtime.errors import CheckpointError, ConfigError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits
from quillrt.train.finetuning import finetune
from quillrt.train.freezing import Freezing
from quillrt.train.training import Surroundings, train_new

CONFIG = TrainConfig(epochs=1, lr=1e-3, device="cpu")


def changed(before, after):
    return {name for name in after.weights if not torch.equal(before.weights[name], after.weights[name])}


def test_every_layer_learns_by_default(untrained, few_digits):
    tuned = finetune(untrained, few_digits, CONFIG)
    assert changed(untrained, tuned) == set(untrained.weights)
    assert tuned.training["started_from"] == {"dataset": "digits"}


def test_frozen_parameters_stay_bit_by_bit(untrained, few_digits):
    config = TrainConfig(epochs=1, lr=1e-3, weight_decay=0.5, device="cpu")  # decay must not touch them either
    tuned = finetune(
        untrained,
        few_digits,
        config,
        freezing=Freezing(
            (
                "conv*",
                "fc1.bias",
            )
        ),
    )
    assert changed(untrained, tuned) == {"fc1.weight", "fc2.weight", "fc2.bias"}
    assert tuned.training["freeze"] == ["conv*", "fc1.bias"]


def test_same_labels_keep_the_head(untrained, few_digits):
    tuned = finetune(untrained, few_digits, TrainConfig(epochs=1, lr=1e-12, device="cpu"))
    torch.testing.assert_close(tuned.weights["fc2.weight"], untrained.weights["fc2.weight"])


def test_other_class_count_gets_a_new_head_on_the_old_body(untrained, few_digits):
    tuned = finetune(
        untrained,
        few_digits,
        CONFIG,
        freezing=Freezing(
            (
                "conv*",
                "fc1*",
            )
        ),
        classes=["3", "8"],
    )
    assert tuned.spec.labels == ("3", "8")
    assert tuned.weights["fc2.weight"].shape == (2, 128)
    body = {name for name in untrained.weights if not name.startswith("fc2")}
    assert not changed(untrained, tuned) & body
    assert tuned.module()(torch.zeros(1, 1, 28, 28)).shape == (1, 2)


def test_other_labels_of_the_same_number_get_a_new_head(untrained, few_digits):
    reversed_order = few_digits.only("9876543210")
    tuned = finetune(untrained, reversed_order, TrainConfig(epochs=1, lr=1e-12, device="cpu"))
    assert tuned.spec.labels == tuple("9876543210")
    assert (tuned.weights["fc2.weight"] - untrained.weights["fc2.weight"]).abs().max() > 1e-3
    torch.testing.assert_close(tuned.weights["fc1.weight"], untrained.weights["fc1.weight"])


def test_new_head_follows_the_seed(untrained, few_digits):
    heads = [
        finetune(untrained, few_digits, TrainConfig(epochs=1, seed=seed, device="cpu"), classes="01").weights[
            "fc2.weight"
        ]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_preprocessing_stays_the_checkpoints_and_fit_follows_the_data(untrained, few_digits):
    other = Splits(
        few_digits.train, few_digits.validation, few_digits.test, Preprocessing(mean=0.9, std=9, fit="resize")
    )
    recipe, old = finetune(untrained, other, CONFIG).spec.preprocessing, untrained.spec.preprocessing
    assert (recipe.mean, recipe.std, recipe.fit) == (old.mean, old.std, "resize")


def test_fine_tuning_learns_what_the_start_did_not_know(untrained, digits):
    """From random weights to telling 3 from 8: the accuracy, not only the weights, moves."""
    tuned = finetune(untrained, digits, TrainConfig(epochs=6, device="cpu"), classes=["3", "8"])
    few = digits.only(["3", "8"])
    history = [epoch["validation_accuracy"] for epoch in tuned.training["history"]]
    assert history[-1] > 0.95 > np.bincount(few.validation.labels).max() / len(few.validation)


@pytest.mark.parametrize(
    ("freeze", "classes", "says"),
    [
        (["conv9*"], None, r"matches one of conv1\.weight, conv1\.bias, .* found 'conv9\*'"),
        (["fc*"], ["1", "2"], r"leaves fresh weights alone, but 'fc\*' freezes fc2\.bias, fc2\.weight"),
        (["*"], None, "all are frozen"),
        ([], ["1", "x"], "found 1, x"),
    ],
)
def test_refusals(untrained, few_digits, freeze, classes, says):
    with pytest.raises(ConfigError, match=says):
        finetune(untrained, few_digits, CONFIG, Freezing(tuple(freeze)), classes)


def test_head_only_on_other_classes_keeps_the_body(untrained, few_digits):
    tuned = finetune(untrained, few_digits, CONFIG, Freezing(head_only=True), classes=["3", "8"])
    assert changed(untrained, tuned) == {"fc2.weight", "fc2.bias"}
    assert tuned.weights["fc2.weight"].shape == (2, 128)
    assert tuned.training["head_only"] is True


def test_layer_decay_slows_earlier_layers(untrained, few_digits):
    """Adam's first step moves each weight by its layer's rate, whatever the gradient: 0.001 times 0.1 per layer."""
    config = TrainConfig(epochs=1, batch_size=128, lr=1e-3, layer_decay=0.1, device="cpu")
    tuned = finetune(untrained, few_digits, config)
    for name, rate in {"fc2": 1e-3, "fc1": 1e-4, "conv2": 1e-5, "conv1": 1e-6}.items():
        step = (tuned.weights[f"{name}.bias"] - untrained.weights[f"{name}.bias"]).abs().max()
        assert step.item() == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("name", ["quillnet", "rnn"])
def test_every_network_gets_a_new_head(few_digits, name):
    start = train_new(name, few_digits, CONFIG)
    freezing = Freezing(head_only=True)
    tuned = finetune(start, few_digits, CONFIG, freezing, classes=["3", "8", "1"])
    assert tuned.weights["head.weight"].shape[0] == 3
    body = {key for key in start.weights if not key.startswith("head")}
    assert body
    assert all(torch.equal(tuned.weights[key], start.weights[key]) for key in body)


def test_resuming_a_fine_tuning_from_another_start_is_refused(untrained, few_digits, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    around = Surroundings(state=tmp_path / "tuned.state", resume=True)
    with pytest.raises(KeyboardInterrupt):
        finetune(untrained, few_digits, CONFIG, surroundings=around, on_epoch=stop)
    other = replace(untrained, weights={name: tensor + 1 for name, tensor in untrained.weights.items()})
    with pytest.raises(CheckpointError, match="start weights"):
        finetune(other, few_digits, CONFIG, surroundings=around)
