import numpy as np
import pytest
import torch
from torch import nn

from quillrt.runtime.errors import BackendUnavailable, ConfigError, QuillError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits
from quillrt.train.freezing import Freezing
from quillrt.train.training import Surroundings, train, train_new


def linear(splits):
    """A network without dropout or convolution, all weights zero."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(splits.train.images[0].size, len(splits.classes)))
    nn.init.zeros_(module[1].weight)
    nn.init.zeros_(module[1].bias)
    return module


@pytest.fixture
def pixels():
    """Four images of two pixels, two classes; the preprocessing maps 0 to -1 and 255 to 1."""
    images = np.array([[[255, 0]], [[0, 255]], [[255, 0]], [[0, 255]]], np.uint8)
    recipe = Preprocessing(height=1, width=2, mean=0.5, std=0.5)
    part = ImageSet(images, np.array([0, 1, 0, 1]), ("left", "right"), fitted=recipe)
    return Splits(part, part, part, recipe)


def test_one_step_of_sgd_by_hand(pixels):
    """Logits are 0, so each class has probability 1/2 and the loss is ln 2.

    d loss / d w = mean of (p - y) x: for class 0, (-1/2 [1, -1] + 1/2 [-1, 1]) / 2 = [-1/2, 1/2]; SGD steps against it.
    """
    module = linear(pixels)
    config = TrainConfig(epochs=1, batch_size=4, optimizer="sgd", lr=0.1, momentum=0, schedule="constant", device="cpu")
    (epoch,) = train(module, pixels, config)
    assert epoch.loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(module[1].weight.detach(), [[0.05, -0.05], [-0.05, 0.05]], rtol=1e-6)
    np.testing.assert_allclose(module[1].bias.detach(), [0, 0], atol=1e-8)
    assert epoch.validation_accuracy == 1


def test_cosine_schedule_halves_the_second_of_two_steps(pixels):
    """The steps' sizes are lr x 1 and lr x (1 + cos(pi / 2)) / 2; a lr near 0 leaves the gradient as it is."""
    module = linear(pixels)
    config = TrainConfig(epochs=2, batch_size=4, optimizer="sgd", lr=1e-4, momentum=0, schedule="cosine", device="cpu")
    train(module, pixels, config)
    assert module[1].weight[0, 0].item() == pytest.approx(1.5 * 0.5e-4, rel=1e-3)


def test_adamw_step_by_hand(pixels):
    """Adam's first step is lr times the gradient's sign; the decay then has nothing to pull on, as weights are 0."""
    module = linear(pixels)
    train(module, pixels, TrainConfig(epochs=1, batch_size=4, lr=0.01, weight_decay=0.1, device="cpu"))
    np.testing.assert_allclose(module[1].weight.detach(), [[0.01, -0.01], [-0.01, 0.01]], rtol=1e-4)


CONFIG = TrainConfig(epochs=1, device="cpu")


def test_seed_repeats_weights_and_leaves_the_callers_numbers_alone(few_digits):
    torch.manual_seed(5)
    first = train_new("cnn", few_digits, CONFIG)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    again = train_new("cnn", few_digits, CONFIG)
    other = train_new("cnn", few_digits, TrainConfig(epochs=1, device="cpu", seed=1))
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in first.weights.items())
    assert not torch.equal(other.weights["fc2.weight"], first.weights["fc2.weight"])


def test_checkpoint_tells_how_it_was_trained(few_digits):
    after_each = []
    checkpoint = train_new("cnn", few_digits, CONFIG, on_epoch=after_each.append)
    assert checkpoint.training["config"]["lr"] == CONFIG.lr
    (epoch,) = checkpoint.training["history"]
    assert (epoch["number"], len(after_each)) == (1, 1)
    assert after_each[0].training == checkpoint.training
    assert all(torch.equal(after_each[0].weights[name], tensor) for name, tensor in checkpoint.weights.items())
    assert epoch["loss"] > 0
    assert checkpoint.spec.labels == few_digits.classes
    assert checkpoint.spec.preprocessing == few_digits.preprocessing


def test_progress_counts_every_batch(few_digits):
    seen = []

    def track(items, label, total=None):
        for item in items:
            seen.append((label, total, len(item)))
            yield item

    config = TrainConfig(epochs=2, batch_size=50, device="cpu")
    train(linear(few_digits), few_digits, config, Surroundings(track))
    assert seen == [(f"epoch {e}/2", 3, n) for e in (1, 2) for n in (50, 50, 28)]


def test_digits_are_learned_in_few_epochs(digits):
    checkpoint = train_new("cnn", digits, TrainConfig(epochs=4, device="cpu"))
    history = checkpoint.training["history"]
    assert history[-1]["validation_accuracy"] > 0.93
    assert history[-1]["loss"] < history[0]["loss"] / 3


def test_diverged_training_says_so(few_digits):
    config = TrainConfig(epochs=5, optimizer="sgd", lr=1e12, device="cpu")
    with pytest.raises(
        QuillError, match=r"finite loss, found nan .* lower the learning rate \(--lr, now 1000000000000.0\)"
    ):
        train_new("cnn", few_digits, config)


def test_the_network_comes_back_in_eval_mode_and_as_trainable_as_it_was(pixels):
    module = nn.Sequential(*linear(pixels), nn.Linear(2, 2))
    module[2].bias.requires_grad_(False)
    bias = module[2].bias.detach().clone()
    train(module, pixels, CONFIG, freezing=Freezing(("1.*",)))
    assert not module.training
    assert [name for name, parameter in module.named_parameters() if not parameter.requires_grad] == ["2.bias"]
    assert torch.equal(module[2].bias, bias)
    assert module[1].weight.abs().max() == 0  # frozen for the time, and zero from the start


def test_nothing_left_to_train(few_digits):
    module = linear(few_digits).requires_grad_(False)
    with pytest.raises(ConfigError, match="all are frozen"):
        train(module, few_digits, CONFIG)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_no_silent_fallback(few_digits):
    with pytest.raises(BackendUnavailable, match="CUDA"):
        train(linear(few_digits), few_digits, TrainConfig(device="cuda"))


@pytest.mark.gpu
def test_trains_on_a_gpu(digits):
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    checkpoint = train_new("cnn", digits, TrainConfig(epochs=4, device="cuda"))
    assert checkpoint.training["history"][-1]["validation_accuracy"] > 0.93
    assert all(tensor.device.type == "cpu" for tensor in checkpoint.weights.values())
