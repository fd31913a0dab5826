import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from quillrt.train.losses import Loss, balanced_weights, distillation
from quillrt.train.seeding import seeded


@pytest.fixture
def batch():
    with seeded(0):
        return 3 * torch.randn(50, 7), torch.randint(7, (50,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_torchs(batch, smoothing):
    expected = functional.cross_entropy(*batch, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(Loss(label_smoothing=smoothing)(*batch), expected)


def test_weighted_mean_is_torchs(batch):
    logits, labels = batch
    weights = torch.tensor([0.1, 1.0, 2.0, 3.0, 0.5, 0.0, 7.0])
    loss = Loss(class_weights=weights)
    each = loss.weights(labels)
    mean = (loss(logits, labels) * each).sum() / each.sum()
    torch.testing.assert_close(mean, functional.cross_entropy(logits, labels, weights))
    assert torch.equal(Loss().weights(labels), torch.ones(50))


def test_class_weights_follow_the_loss_to_its_device():
    assert Loss(class_weights=torch.ones(3)).to("meta").weights(torch.zeros(4, dtype=torch.long, device="meta")).is_meta


def test_squared_error_by_hand():
    """Of probabilities 1/4 and 3/4: the Brier score is 2 x (1/4)² if the second is right, else 2 x (3/4)²."""
    logits = torch.tensor([[0.0, np.log(3)], [0.0, np.log(3)]])
    assert Loss(mse_share=1)(logits, torch.tensor([1, 0])).tolist() == pytest.approx([2 / 16, 18 / 16])


def test_squared_error_to_smoothed_targets_by_hand():
    """Targets 0.1 and 0.9."""
    logits = torch.tensor([[0.0, np.log(3)]])
    found = Loss(mse_share=1, label_smoothing=0.2)(logits, torch.tensor([1]))
    assert found.item() == pytest.approx(2 * 0.15**2)


def test_squared_error_is_least_at_the_smoothed_target():
    target = torch.full((5,), 0.02)
    target[3] += 0.9
    assert Loss(mse_share=1, label_smoothing=0.1)(target.log()[None], torch.tensor([3])).item() < 1e-12


def test_mixture_is_a_straight_line_between_both(batch):
    entropy, brier = Loss()(*batch), Loss(mse_share=1)(*batch)
    torch.testing.assert_close(Loss(mse_share=0.3)(*batch), 0.7 * entropy + 0.3 * brier)


def test_sure_and_wrong_logits_have_finite_gradients():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    Loss(mse_share=0.5)(logits, torch.tensor([1])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_are_scikit_learns():
    labels = np.random.default_rng(0).choice(5, 300, p=[0.5, 0.3, 0.1, 0.07, 0.03])
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    found = balanced_weights(torch.from_numpy(labels), 5)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected.tolist())


def test_a_class_without_images_weighs_nothing():
    found = balanced_weights(torch.tensor([0, 0, 0, 2]), 4)
    assert found.tolist() == pytest.approx([4 / 12, 0, 4 / 4, 0])


def test_distillation_by_hand():
    """Teacher 3/4 : 1/4, student 1/2 : 1/2 once softened by 2: 4 x (3/4 ln(3/2) + 1/4 ln(1/2))."""
    teacher = torch.tensor([[2 * np.log(3), 0.0]])
    found = distillation(torch.zeros(1, 2), teacher, temperature=2)
    assert found.item() == pytest.approx(4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_nothing_where_answers_are_equal_and_positive_elsewhere(batch, temperature):
    logits = batch[0].double()
    assert distillation(logits, logits + 5, temperature).abs().max() < 1e-12  # a shift changes no probability
    assert (distillation(logits, logits.flip(1), temperature) > 1e-6).all()


def test_distillations_gradient_at_a_high_temperature_is_that_of_matching_logits():
    """Equation 4 of Hinton, Vinyals, Dean: (student - teacher) / K for logits of mean 0, times T² / T²."""
    with seeded(1):
        student, teacher = torch.randn(2, 6, 4, dtype=torch.float64)
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    student.requires_grad_()
    distillation(student, teacher, 1e4).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 4, rtol=1e-3, atol=1e-4)
