"""The two networks of a conditional GAN for small grey images: one draws a class, one tells drawn from real."""

from __future__ import annotations

import torch
from torch import nn

from quillrt.runtime.errors import SpecError

NOISE = 64  # numbers that make one image of a class differ from another
_EMBEDDING = 64  # numbers that stand for a class
_LEAK, _DEVIATION = 0.2, 0.02  # slope below 0, and of fresh weights; as in arXiv 1511.06434
_SMALLEST, _LARGEST = 16, 64  # of a side, pixels: two halvings leave something, and the full layers stay small


def check_size(height: int, width: int) -> None:
    """Raise unless both networks can be built for images of this size.

    Raises:
        SpecError: a side is no multiple of 4, or out of 16..64.
    """
    if any(side % 4 or not _SMALLEST <= side <= _LARGEST for side in (height, width)):
        raise SpecError(
            f"expected images whose sides are multiples of 4 from {_SMALLEST} to {_LARGEST}, found {height} x {width}; "
            "fit them to another size"
        )


class Generator(nn.Module):
    """Noise and a class to an image: a full layer and two transposed convolutions, each normalized by batch.

    Source: Radford, Metz, Chintala, "Unsupervised representation learning with deep convolutional generative
    adversarial networks", arXiv 1511.06434.
    """

    def __init__(self, classes: int, height: int, width: int, channels: int = 128) -> None:
        super().__init__()
        check_size(height, width)
        quarter = (channels, height // 4, width // 4)
        self.embedding = nn.Embedding(classes, _EMBEDDING)
        self.full = nn.Linear(NOISE + _EMBEDDING, channels * quarter[1] * quarter[2], bias=False)
        self.upscale = nn.Sequential(
            nn.Unflatten(1, quarter),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.ConvTranspose2d(channels // 2, channels // 4, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(),
            nn.Conv2d(channels // 4, 1, 3, padding=1),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=_DEVIATION)

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return images (N, 1, H, W) of -1..1 for noise (N, 64) and labels (N,) int64."""
        images: torch.Tensor = self.upscale(self.full(torch.cat([noise, self.embedding(labels)], 1)))
        return images


class Discriminator(nn.Module):
    """An image and a class to a verdict: three convolutions and a full layer, and a projection on the class.

    Source of the projection: Miyato, Koyama, "cGANs with projection discriminator", arXiv 1802.05637. No layer is
    normalized: at a few thousand steps, spectral normalization left the verdicts too mild to learn from.
    """

    def __init__(self, classes: int, height: int, width: int, channels: int = 32, features: int = 128) -> None:
        super().__init__()
        check_size(height, width)
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(_LEAK),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.LeakyReLU(_LEAK),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.LeakyReLU(_LEAK),
            nn.Flatten(),
            nn.Linear(2 * channels * (height // 4) * (width // 4), features),
            nn.LeakyReLU(_LEAK),
        )
        self.verdict = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return verdicts (N,), above 0 for real, on images (N, 1, H, W) that shall be of labels (N,) int64."""
        found = self.features(images)  # (N, features)
        verdicts: torch.Tensor = self.verdict(found)[:, 0] + (self.embedding(labels) * found).sum(1)
        return verdicts
