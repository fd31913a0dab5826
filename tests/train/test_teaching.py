from dataclasses import replace

import pytest
import torch

from quillrt.runtime.errors import CheckpointError, ConfigError
from quillrt.train.checkpoint import save_checkpoint
from quillrt.train.config import TrainConfig
from quillrt.train.models import build_model
from quillrt.train.seeding import seeded
from quillrt.train.teaching import Ensemble, Teacher, load_teacher
from quillrt.train.training import Surroundings, train_new


def saved(tmp_path, checkpoint, name="teacher", **recipe):
    spec = replace(checkpoint.spec, preprocessing=replace(checkpoint.spec.preprocessing, **recipe))
    path = tmp_path / f"{name}.safetensors"
    save_checkpoint(path, replace(checkpoint, spec=spec))
    return path


def test_a_teacher_of_another_mean_and_deviation(tmp_path, untrained, few_digits):
    path = saved(tmp_path, untrained, mean=0.5, std=0.25)
    teacher = load_teacher([path], few_digits, 0.3, 2.0)
    assert (teacher.weight, teacher.temperature) == (0.3, 2.0)
    grey = torch.rand(2, 1, 28, 28)
    assert torch.equal(teacher.module(grey), untrained.module()((grey - 0.5) / 0.25))


def test_several_answer_by_the_geometric_mean_of_their_probabilities(tmp_path, untrained, few_digits):
    paths, products, grey = [], torch.ones(4, 10), torch.from_numpy(few_digits.test.images[:4, None] / 255).float()
    for seed, (mean, std) in enumerate([(0.1, 0.3), (0.5, 0.25), (0.2, 0.9)]):
        with seeded(seed):
            module = build_model("cnn", 10).eval()
        module.fc2.weight.data *= 20  # fresh networks are sure of nothing, and all means are much the same
        other = replace(untrained, weights=module.state_dict())
        paths.append(saved(tmp_path, other, f"teacher{seed}", mean=mean, std=std))
        products *= module((grey - mean) / std).detach().softmax(1)
    expected = products ** (1 / 3) / (products ** (1 / 3)).sum(1, keepdim=True)
    found = load_teacher(paths, few_digits, 0.5, 4.0).module.eval()(grey).softmax(1)
    torch.testing.assert_close(found, expected)


def test_the_whole_loss_of_a_teacher_makes_an_imitator(tmp_path, digits, few_digits, untrained):
    """Labels count nothing, so that the student learns the answers of a teacher that knows none of them."""
    teacher = load_teacher([saved(tmp_path, untrained)], few_digits, 1.0, 1.0)
    config = TrainConfig(epochs=12, lr=3e-3, device="cpu")
    history = train_new("cnn", few_digits, config, Surroundings(teacher=teacher)).training["history"]
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    assert history[-1]["accuracy"] < 0.5


@pytest.mark.parametrize(("amp", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_teacher_computes_as_its_student_does(few_digits, untrained, amp, dtype):
    module, seen = untrained.module(), set()
    module.register_forward_hook(lambda module, images, logits: seen.add(logits.dtype))
    teacher = Teacher(Ensemble([(module, untrained.spec.preprocessing.mean, untrained.spec.preprocessing.std)]))
    train_new("cnn", few_digits, TrainConfig(epochs=1, amp=amp, device="cpu"), Surroundings(teacher=teacher))
    assert seen == {dtype}


@pytest.mark.parametrize("classes", ["0123456798", "01"])
def test_other_classes_are_refused(tmp_path, untrained, few_digits, classes):
    path = saved(tmp_path, untrained)
    with pytest.raises(ConfigError, match=r"teacher of the classes .* knows 0, 1, 2, .* --teacher or --classes"):
        load_teacher([path], few_digits.only(classes), 0.5, 4.0)


def test_another_size_or_denoising_is_refused(tmp_path, untrained, few_digits):
    path = saved(tmp_path, untrained)
    for change in ({"height": 32}, {"denoise": ("median",)}):
        splits = replace(few_digits, preprocessing=replace(few_digits.preprocessing, **change))
        with pytest.raises(ConfigError, match="height, width and denoising"):
            load_teacher([path], splits, 0.5, 4.0)


def test_no_such_file(tmp_path, untrained, few_digits):
    with pytest.raises(CheckpointError, match="check the path"):
        load_teacher([saved(tmp_path, untrained), tmp_path / "none.safetensors"], few_digits, 0.5, 4.0)
