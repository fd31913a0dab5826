"""What a training makes small: cross entropy, mean squared error on one-hot, or both."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Loss(nn.Module):
    """Weighted sum of cross entropy and of the squared error between probabilities and one-hot targets.

    The squared error is taken on softmax's probabilities, summed over the classes: the Brier score (G. W. Brier,
    Monthly Weather Review 78, 1950). Of the raw logits it would make scores that are no logits, and whoever takes
    their softmax afterwards, as the runtime does, would read confidences that mean nothing.

    Args:
        mse_share: s; the loss is (1 - s) x cross entropy + s x squared error.
        label_smoothing: share of each one-hot target that is spread over all classes; for both parts.
        class_weights: (K,), weight of each image by its class; ``None`` for equal ones.
    """

    def __init__(
        self, mse_share: float = 0.0, label_smoothing: float = 0.0, class_weights: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self._mse_share, self._smoothing = mse_share, label_smoothing
        self._weights: torch.Tensor | None
        self.register_buffer("_weights", class_weights)

    def weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the weight of each image, (N,) float32, by its label (N,)."""
        return torch.ones(len(labels), device=labels.device) if self._weights is None else self._weights[labels]

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image before weighting, (N,), of logits (N, K) and labels (N,)."""
        classes = logits.shape[1]
        target = functional.one_hot(labels, classes).to(logits.dtype)
        target = target * (1 - self._smoothing) + self._smoothing / classes
        loss = logits.new_zeros(len(labels))
        if self._mse_share < 1:
            loss = loss - (1 - self._mse_share) * (target * functional.log_softmax(logits, 1)).sum(1)
        if self._mse_share > 0:
            loss = loss + self._mse_share * (logits.softmax(1) - target).square().sum(1)
        return loss


def balanced_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return weights (classes,) float32 by which every class counts the same: N / (K x images of the class).

    As scikit-learn's ``class_weight="balanced"``; a class without images gets 0.
    """
    counts = torch.bincount(labels, minlength=classes).float()
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp(min=1)), 0)


def distillation(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how far each image's softened probabilities are from the teacher's, (N,), for two logits (N, K).

    Kullback-Leibler divergence at a temperature, times its square, which keeps the gradient's size: Hinton, Vinyals,
    Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531.
    """
    own, wanted = (functional.log_softmax(each / temperature, 1) for each in (logits, teacher))
    return functional.kl_div(own, wanted, reduction="none", log_target=True).sum(1) * temperature**2
