"""Random changes that a discriminator sees on real and generated images alike, and that gradients pass through.

They keep it from learning few images by heart. Source: Zhao et al., "Differentiable augmentation for data-efficient GAN
training", arXiv 2006.10738: its policy "color,translation,cutout", of which grey images have no hue, with its sizes.
"""

from __future__ import annotations

import torch
from torch.nn import functional

_SHIFT = 1 / 8  # of the side, at most, either way
_CUT = 1 / 2  # of the side
_GROUND = -1.0  # black, in the generator's range


def diff_augment(images: torch.Tensor) -> torch.Tensor:
    """Return images (N, 1, H, W) of -1..1 brightened or darkened, shifted and cut into, each at random."""
    return _cut(_shift(_brighten(images)))


def _brighten(images: torch.Tensor) -> torch.Tensor:
    return images + torch.rand(len(images), 1, 1, 1, device=images.device) - 0.5


def _shift(images: torch.Tensor) -> torch.Tensor:
    """Move each image by whole pixels; what comes in from outside is black."""
    count, _, height, width = images.shape
    down, right = round(height * _SHIFT), round(width * _SHIFT)  # at most
    padded = functional.pad(images, (right, right, down, down), value=_GROUND)
    rows = _ranges(count, 2 * down + 1, height, images.device)[:, None, :, None]  # (N, 1, H, 1)
    columns = _ranges(count, 2 * right + 1, width, images.device)[:, None, None, :]  # (N, 1, 1, W)
    number = torch.arange(count, device=images.device)[:, None, None, None]
    return padded[number, 0, rows, columns]


def _ranges(count: int, starts: int, length: int, device: torch.device) -> torch.Tensor:
    """Return (count, length) int64: in each row consecutive numbers from one of 0..starts - 1."""
    return torch.randint(starts, (count, 1), device=device) + torch.arange(length, device=device)


def _cut(images: torch.Tensor) -> torch.Tensor:
    """Make a rectangle somewhere in each image grey; a part of it may lie outside."""
    count, _, height, width = images.shape
    rows = _inside(count, height, images.device)[:, None, :, None]
    columns = _inside(count, width, images.device)[:, None, None, :]
    return images.masked_fill(rows & columns, 0.0)


def _inside(count: int, side: int, device: torch.device) -> torch.Tensor:
    """Return bool (count, side): which rows or columns the rectangle of each image covers."""
    centre = torch.randint(side + 1, (count, 1), device=device)
    distance = torch.arange(side, device=device) - centre
    half = round(side * _CUT / 2)
    return (-half <= distance) & (distance < half)
