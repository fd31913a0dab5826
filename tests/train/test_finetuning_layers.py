from itertools import pairwise

import numpy as np
import pytest
import torch

from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint
from quillrt.train.config import TrainConfig
from quillrt.train.finetuning import finetune
from quillrt.train.freezing import Freezing
from quillrt.train.models import build_model, layers
from quillrt.train.seeding import seeded

CONFIG = TrainConfig(epochs=3, batch_size=64, lr=1e-3, device="cpu")


@pytest.fixture
def quillnet(digits):
    with seeded(3):
        module = build_model("quillnet", 10)
    spec = character_spec(digits.classes, digits.preprocessing)
    return Checkpoint.of("quillnet", spec, module.state_dict(), {})


def changed(before, after):
    return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}


def test_layers_go_from_image_to_logits():
    names = [[*{name.split(".")[0] for name in layer}] for layer in layers(build_model("quillnet", 10))]
    assert names == [[f"block{i}"] for i in range(1, 8)] + [["head"]]


def test_head_only_leaves_the_rest_and_its_statistics_bit_by_bit(quillnet, few_digits):
    tuned = finetune(quillnet, few_digits, CONFIG, Freezing(head_only=True))
    assert changed(quillnet.weights, tuned.weights) == {"head"}


def test_one_more_layer_joins_each_time(quillnet, few_digits):
    states = [quillnet.weights]
    finetune(quillnet, few_digits, CONFIG, Freezing(unfreeze_every=1), on_epoch=lambda c: states.append(c.weights))
    moved = [changed(before, after) for before, after in pairwise(states)]
    assert moved == [{"head"}, {"head", "block7"}, {"head", "block7", "block6"}]


def test_frozen_norms_keep_their_statistics_while_others_move(quillnet, few_digits):
    tuned = finetune(quillnet, few_digits, CONFIG, Freezing(("block1.*", "block2.*")))
    for name, tensor in tuned.weights.items():
        frozen = name.startswith(("block1.", "block2."))
        assert torch.equal(tensor, quillnet.weights[name]) is frozen, name


def test_a_layer_that_never_thaws_in_time_stays(quillnet, few_digits):
    """Three epochs, one more layer after each two: the head, then the one before it, and no other."""
    tuned = finetune(quillnet, few_digits, CONFIG, Freezing(unfreeze_every=2))
    assert changed(quillnet.weights, tuned.weights) == {"head", "block7"}


def test_a_pattern_holds_what_gradual_unfreezing_would_free(quillnet, few_digits):
    tuned = finetune(quillnet, few_digits, CONFIG, Freezing(("block7.*",), unfreeze_every=1))
    assert changed(quillnet.weights, tuned.weights) == {"head", "block6"}


def test_the_average_of_frozen_layers_is_what_they_were(quillnet, few_digits):
    config = TrainConfig(**{**vars(CONFIG), "ema": 0.99, "weight_decay": 0.1})
    tuned = finetune(quillnet, few_digits, config, Freezing(("block[1-6].*",)))
    assert changed(quillnet.weights, tuned.weights) == {"block7", "head"}


def test_earlier_layers_move_less(untrained, few_digits):
    """The first step of SGD without momentum is the rate times the gradient, whatever the rate of other layers."""
    config = TrainConfig(
        epochs=1, batch_size=128, optimizer="sgd", momentum=0, lr=0.1, schedule="constant", device="cpu"
    )
    halved = TrainConfig(**{**vars(config), "layer_decay": 0.5})
    with_one, with_half = (finetune(untrained, few_digits, c).weights for c in (config, halved))
    for distance, layer in enumerate(("fc2", "fc1", "conv2", "conv1")):
        whole, part = (w[f"{layer}.weight"] - untrained.weights[f"{layer}.weight"] for w in (with_one, with_half))
        ratio = (part.norm() / whole.norm()).item()
        assert ratio == pytest.approx(0.5**distance, rel=0.01), layer


def test_a_teacher_of_another_recipe_pulls_towards_its_answers(quillnet, few_digits):
    """With all weight on the teacher the labels do not matter: shuffled, they give the same weights."""
    from dataclasses import replace

    from quillrt.train.teaching import Ensemble, Teacher
    from quillrt.train.training import Surroundings

    shuffled = replace(few_digits.train, labels=few_digits.train.labels[::-1].copy())
    results = []
    for train_part in (few_digits.train, shuffled):
        teacher = Teacher(Ensemble([(quillnet.module(), 0.5, 0.5)]), weight=1.0)
        splits = replace(few_digits, train=train_part)
        results.append(finetune(quillnet, splits, CONFIG, surroundings=Surroundings(teacher=teacher)).weights)
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
