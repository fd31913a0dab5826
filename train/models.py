"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from quillrt.runtime.errors import ConfigError, SpecError


class Cnn(nn.Module):
    """Two 3 x 3 convolutions, a pooling by 2, two linear layers: PyTorch's MNIST example, giving logits.

    Source: pytorch/examples, mnist/main.py. Every step is a module, so that an exporter can name each node by its own.
    """

    def __init__(self, classes: int, height: int = 28, width: int = 28) -> None:
        super().__init__()
        pooled = (height - 4) // 2 * ((width - 4) // 2)  # each convolution takes a border of one pixel
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(0.25)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * pooled, 128)
        self.relu3 = nn.ReLU()
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K) for images (N, 1, H, W); the shapes below are those of 28 x 28."""
        x = self.relu1(self.conv1(image))  # (N, 32, 26, 26)
        x = self.relu2(self.conv2(x))  # (N, 64, 24, 24)
        x = self.dropout1(self.pool(x))  # (N, 64, 12, 12)
        x = self.relu3(self.fc1(self.flatten(x)))  # (N, 9216) to (N, 128)
        logits: torch.Tensor = self.fc2(self.dropout2(x))  # (N, K)
        return logits


MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {"cnn": Cnn}


def build_model(name: str, classes: int, height: int = 28, width: int = 28) -> nn.Module:
    """Return the network ``name`` with fresh weights: images (N, 1, height, width) to logits (N, classes).

    Raises:
        ConfigError: no network has this name.
        SpecError: fewer than one class, or images too small for two convolutions and a pooling.
    """
    if name not in MODELS:
        raise ConfigError(f"expected a model out of {', '.join(MODELS)}, found {name!r}")
    if classes < 1 or min(height, width) < 6:
        raise SpecError(f"expected classes and images of at least 6 x 6, found {classes} and {height} x {width}")
    return MODELS[name](classes, height, width)
