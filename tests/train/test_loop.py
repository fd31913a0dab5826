"""What a training does step by step, its options one by one."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from quillrt.runtime.errors import BackendUnavailable, QuillError
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.train import devices
from quillrt.train.averaging import averaged
from quillrt.train.config import TrainConfig
from quillrt.train.devices import check_compiler
from quillrt.train.distributed import World
from quillrt.train.freezing import Freezing
from quillrt.train.loop import Loop
from quillrt.train.models import build_model
from quillrt.train.policies import Augmentation
from quillrt.train.seeding import seeded
from quillrt.train.teaching import Ensemble, Teacher
from quillrt.train.training import Surroundings, train, train_new

SGD = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "device": "cpu"}


def net(splits, name="cnn", seed=0):
    with seeded(seed):
        return build_model(name, len(splits.classes))


def batch_of(part, splits):
    images = normalize(fit_images(part, splits.preprocessing), splits.preprocessing)
    return torch.from_numpy(images), torch.from_numpy(part.labels)


def linear(splits, seed=0):
    """A network without dropout: a step of it can be made beside the loop."""
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, len(splits.classes)))


def one_step(splits, loss_of, lr=0.1):
    """Weights of ``linear`` after one plain step on all training images at once."""
    module = linear(splits)
    images, labels = batch_of(splits.train, splits)
    loss_of(module(images), labels).backward()
    return module[1].weight.detach() - lr * module[1].weight.grad


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({"label_smoothing": 0.2}, lambda x, y: functional.cross_entropy(x, y, label_smoothing=0.2)),
        ({"mse_share": 1.0}, lambda x, y: (x.softmax(1) - functional.one_hot(y, 10)).square().sum(1).mean()),
        (
            {"class_weights": "balanced"},
            lambda x, y: functional.cross_entropy(x, y, weight=len(y) / (10 * torch.bincount(y, minlength=10))),
        ),
    ],
)
def test_the_loss_asked_for_moves_the_weights(few_digits, options, loss):
    module = linear(few_digits)
    (epoch,) = train(module, few_digits, TrainConfig(epochs=1, batch_size=128, lr=0.1, **SGD, **options))
    torch.testing.assert_close(module[1].weight.detach(), one_step(few_digits, loss), atol=1e-5, rtol=1e-4)
    images, labels = batch_of(few_digits.train, few_digits)
    assert epoch.loss == pytest.approx(loss(linear(few_digits)(images), labels).item(), rel=1e-5)


def test_figures_of_an_epoch_are_those_of_its_weights(few_digits):
    module = linear(few_digits)
    (epoch,) = train(module, few_digits, TrainConfig(epochs=1, device="cpu"))
    images, labels = batch_of(few_digits.validation, few_digits)
    logits = module(images)
    assert epoch.validation_loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert epoch.validation_accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


@pytest.mark.parametrize("norm", [0.01, 1e9])
def test_clipping_bounds_the_step(few_digits, norm):
    """Plain SGD moves by lr x gradient; a bound beyond the gradient's norm changes nothing."""
    start, module = linear(few_digits), linear(few_digits)
    train(module, few_digits, TrainConfig(epochs=1, batch_size=128, lr=0.1, clip_norm=norm, **SGD))
    step = math.sqrt(
        sum((new - old).square().sum().item() for new, old in zip(module.parameters(), start.parameters(), strict=True))
    )
    free = one_step(few_digits, functional.cross_entropy)
    if norm < 1:
        assert step == pytest.approx(0.1 * norm, rel=1e-3)
    else:
        torch.testing.assert_close(module[1].weight.detach(), free, atol=1e-6, rtol=1e-5)


def test_warmup_and_layer_decay_set_the_rates(few_digits):
    """Four steps in an epoch, two of them warm-up; the highest rate of the last step is told."""
    config = TrainConfig(epochs=1, batch_size=32, lr=0.4, warmup=0.5, layer_decay=0.5, **{**SGD, "schedule": "linear"})
    loop = Loop(net(few_digits), few_digits, config, Freezing(), None, World())
    loop.epoch(lambda items, label, total=None: items)
    assert loop.history[0].lr == pytest.approx(0.4 * 0.5)  # half of the two steps after the warm-up
    rates = sorted({group["lr"] for group in loop._optimizer.param_groups})
    assert rates == pytest.approx([0.2 / 8, 0.2 / 4, 0.2 / 2, 0.2])


def test_the_average_is_what_is_judged_and_kept(few_digits):
    """The same training without an average shows each step's weights; averaging those by itself must agree."""
    config = TrainConfig(epochs=4, batch_size=128, lr=0.5, **SGD)
    plain, steps = linear(few_digits), []
    train(plain, few_digits, config, on_epoch=lambda _, w: steps.append({n: t.clone() for n, t in w.items()}))
    follower = linear(few_digits)
    average = averaged(follower, 0.9)
    for weights in steps:
        follower.load_state_dict(weights)
        average.update_parameters(follower)

    module = linear(few_digits)
    history = train(module, few_digits, TrainConfig(epochs=4, batch_size=128, lr=0.5, ema=0.9, **SGD))
    expected = average.module[1].weight
    torch.testing.assert_close(module[1].weight, expected)
    assert not torch.allclose(module[1].weight, plain[1].weight, atol=1e-3)
    images, labels = batch_of(few_digits.validation, few_digits)
    assert history[-1].validation_loss == pytest.approx(
        functional.cross_entropy(average.module(images), labels).item(), rel=1e-5
    )


def test_patience_keeps_the_best_epochs_weights(few_digits, monkeypatch):
    """Validation accuracies are given: the third epoch is the best, two worse ones end the training."""
    told = iter([(1.0, 0.5), (1.0, 0.5), (1.0, 0.9), (0.1, 0.9), (0.1, 0.8), (0.1, 1.0)])
    monkeypatch.setattr(Loop, "_validate", lambda self: next(told))
    seen = []
    module = linear(few_digits)
    history = train(
        module,
        few_digits,
        TrainConfig(epochs=6, patience=2, device="cpu"),
        on_epoch=lambda _, weights: seen.append(weights["1.weight"].clone()),
    )
    assert [epoch.number for epoch in history] == [1, 2, 3, 4, 5]
    assert torch.equal(module[1].weight, seen[2])
    assert torch.equal(seen[1], seen[0])  # told which weights would be kept: equals do not replace the first
    assert not torch.equal(seen[2], seen[0])
    assert torch.equal(seen[4], seen[2])


def test_patience_on_a_training_that_gets_worse(few_digits):
    """At a rate this high accuracy jumps about; what is kept must be right as often as in the best epoch."""
    module = net(few_digits, "quillnet")
    history = train(module, few_digits, TrainConfig(epochs=8, lr=0.1, patience=3, ema=0.5, device="cpu"))
    course = [epoch.validation_accuracy for epoch in history]
    best = max(course)
    images, labels = batch_of(few_digits.validation, few_digits)
    assert (module(images).argmax(1) == labels).float().mean().item() == pytest.approx(best)
    assert len(course) == min(8, course.index(best) + 1 + 3)


@pytest.mark.parametrize("name", ["cnn", "quillnet", "rnn"])
def test_bfloat16_trains_nearly_as_float32(few_digits, name):
    courses = [
        train(net(few_digits, name), few_digits, TrainConfig(epochs=2, amp=amp, device="cpu"))[-1]
        for amp in (True, False)
    ]
    assert courses[0].loss == pytest.approx(courses[1].loss, rel=0.05)
    assert courses[0].loss != courses[1].loss


def test_weights_stay_float32_with_bfloat16(few_digits):
    module = net(few_digits, "quillnet")
    train(module, few_digits, TrainConfig(epochs=1, amp=True, ema=0.9, device="cpu"))
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.slow
def test_a_compiled_network_trains_as_an_eager_one(few_digits):
    try:
        check_compiler("cpu")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    modules = [linear(few_digits), linear(few_digits)]
    with torch._dynamo.config.patch(suppress_errors=False):
        histories = [
            train(module, few_digits, TrainConfig(epochs=2, batch_size=50, torch_compile=compiled, device="cpu"))
            for module, compiled in zip(modules, (True, False), strict=True)
        ]
    assert histories[0][-1].loss == pytest.approx(histories[1][-1].loss, rel=1e-4)
    torch.testing.assert_close(modules[0][1].weight, modules[1][1].weight, atol=1e-4, rtol=1e-3)


def test_no_compiler_is_told_before_the_training(few_digits, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"torch\.compile needs a compiler \(g\+\+\): apt install g\+\+"):
        train(linear(few_digits), few_digits, TrainConfig(torch_compile=True, device="cpu"))


def test_headers_that_lack_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setattr(devices.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(BackendUnavailable, match=r"Python\.h"):
        check_compiler("cpu")
    (tmp_path / "Python.h").touch()
    check_compiler("cpu")


def test_every_image_counts_once_in_an_epoch(few_digits):
    """At a rate of nearly nothing the mean over batches of 50, 50, 28 is the mean over all images."""
    (epoch,) = train(linear(few_digits), few_digits, TrainConfig(epochs=1, batch_size=50, lr=1e-12, device="cpu"))
    images, labels = batch_of(few_digits.train, few_digits)
    logits = linear(few_digits)(images)
    assert epoch.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert epoch.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_augmentation_is_of_the_training_part_only(few_digits):
    """All ink gone: nothing to learn but how often each class comes, while validation sees its images."""
    blank = Augmentation(contrast=1.0, erasing=1.0, translation=1.0)
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(28 * 28, 10)

        def forward(self, x):
            seen.append((self.training, x.detach().clone()))
            return self.head(x.flatten(1))

    train(Watching(), few_digits, TrainConfig(epochs=1, batch_size=128, augmentation=blank, device="cpu"))
    (_, trained), (training, validated) = seen
    assert not training
    torch.testing.assert_close(validated, batch_of(few_digits.validation, few_digits)[0])
    plain = batch_of(few_digits.train, few_digits)[0]
    assert trained.mean() < plain.mean() - 0.05


def test_what_the_network_sees_is_what_the_runtime_makes(few_digits):
    """Bit by bit nearly: the same bytes, the same mean and deviation."""
    loop = Loop(linear(few_digits), few_digits, TrainConfig(device="cpu"), Freezing(), None, World())
    part = loop._validation
    seen = part.normalized(part.grey(torch.arange(len(few_digits.validation))))
    torch.testing.assert_close(seen, batch_of(few_digits.validation, few_digits)[0])


def test_a_teacher_sees_its_own_normalization_and_shares_the_loss(few_digits):
    """The teacher is a network for other mean and std; half of the loss is its answers at temperature 3."""
    with seeded(5):
        known = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    teacher = Teacher(Ensemble([(known, 0.4, 0.7)]), weight=0.25, temperature=3.0)
    module = linear(few_digits)
    config = TrainConfig(epochs=1, batch_size=128, lr=0.1, **SGD)
    train(module, few_digits, config, Surroundings(teacher=teacher))

    recipe = few_digits.preprocessing
    grey = torch.from_numpy(fit_images(few_digits.train, recipe)).float()[:, None] / 255

    def loss(logits, labels):
        with torch.no_grad():
            wanted = (known((grey - 0.4) / 0.7) / 3).softmax(1)
        softened = -(wanted * (logits / 3).log_softmax(1)).sum(1) + (wanted * wanted.log()).sum(1)
        return 0.75 * functional.cross_entropy(logits, labels) + 0.25 * 9 * softened.mean()

    torch.testing.assert_close(module[1].weight.detach(), one_step(few_digits, loss), atol=1e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in known.parameters())


def test_a_network_that_breaks_in_its_last_step_is_no_checkpoint(few_digits):
    """One step in an epoch: its loss is that of the start, finite; only validation sees what the step made."""
    config = TrainConfig(epochs=1, batch_size=128, lr=1e30, **{**SGD, "optimizer": "adamw"})
    with pytest.raises(QuillError, match=r"finite loss, found 2\.\d+ in epoch 1 and (nan|inf) after it: .*--lr"):
        train_new("cnn", few_digits, config)
