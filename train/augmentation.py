"""Varying a batch of training images, each image by its own draw.

torchvision's own random transforms draw once a call: of a batch, all images would be turned by the same angle. These
are transforms of its kind (``torchvision.transforms.v2.Transform``, so they compose with others) that draw for each
image and work on the whole batch at once. Batches are float (N, 1, H, W), light ink (up to 1) on dark ground (0), on
any device; random numbers are torch's, of that device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2_functional

from .policies import Augmentation

Transform = Callable[[torch.Tensor], torch.Tensor]
_COARSE = 5  # nodes per side of the elastic displacement and of the shadow: bends of about a quarter of the field
_SMALLEST_HOLE, _LARGEST_HOLE = 4, 10  # pixels of the side of what is erased


def build_augmentation(amounts: Augmentation) -> v2.Compose | None:
    """Return the transforms that ``amounts`` asks for in the order in which paper, pen and camera have them.

    ``None`` if it asks for none.
    """
    a = amounts
    chain: list[v2.Transform] = []
    if any((a.rotation, a.translation, a.scale, a.shear, a.perspective, a.elastic)):
        chain.append(Geometry(a.rotation, a.translation, a.scale, a.shear, a.perspective, a.elastic))
    if a.crop:
        chain.append(PadAndCrop(a.crop))
    if a.hflip:
        chain.append(Mirror(a.hflip))
    if a.stroke:
        chain.append(Stroke(a.stroke))
    if a.grain or a.contrast:
        chain.append(Ink(a.grain, a.contrast))
    if a.blur:
        chain.append(Blur(a.blur))
    if a.shadow:
        chain.append(Shadow(a.shadow))
    if a.noise:
        chain.append(v2.GaussianNoise(sigma=a.noise))  # draws for each pixel; clips to 0..1
    if a.erasing:
        chain.append(Erase(a.erasing))
    return v2.Compose(chain) if chain else None


def _either_way(batch: torch.Tensor, most: float) -> torch.Tensor:
    """Return (N,) uniform in -most..most."""
    return (torch.rand(len(batch), device=batch.device) * 2 - 1) * most


def _share(batch: torch.Tensor) -> torch.Tensor:
    """Return (N, 1, 1, 1) uniform in 0..1."""
    return torch.rand(len(batch), 1, 1, 1, device=batch.device)


def _smooth(batch: torch.Tensor, channels: int) -> torch.Tensor:
    """Return slow random fields (N, channels, H, W) of about unit variance at their nodes."""
    nodes = torch.randn(len(batch), channels, _COARSE, _COARSE, device=batch.device)
    rows, columns = (_bicubic(size).to(batch.device) for size in batch.shape[-2:])
    return rows @ nodes @ columns.T


@cache
def _bicubic(size: int) -> torch.Tensor:
    """Return the matrix (size, nodes) of bicubic interpolation along one axis: as two products it is quickest."""
    each = torch.eye(_COARSE).view(1, _COARSE, _COARSE, 1)  # a channel per node
    return functional.interpolate(each, (size, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T


def _largest(batch: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the largest of each pixel and its two neighbours along ``dim``: max_pool2d, but fast for one channel."""
    size = batch.shape[dim]
    both = torch.maximum(batch.narrow(dim, 0, size - 1), batch.narrow(dim, 1, size - 1))
    ends = (batch.narrow(dim, 0, 1), batch.narrow(dim, size - 1, 1))
    return torch.maximum(torch.cat([ends[0], both], dim), torch.cat([both, ends[1]], dim))


class Geometry(v2.Transform):
    """Rotation, translation, scale, shear, perspective and elastic bends in one resampling, so that ink blurs once.

    Elastic: Simard, Steinkraus, Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003; a coarse field made smooth by bicubic interpolation stands for their Gaussian filter.
    """

    def __init__(
        self, rotation: float, translation: float, scale: float, shear: float, perspective: float, elastic: float
    ) -> None:
        super().__init__()
        self._rotation, self._translation, self._scale = math.radians(rotation), translation, scale
        self._shear, self._perspective, self._elastic = shear, perspective, elastic

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch seen through a random homography and a random bend."""
        n, _, height, width = inpt.shape
        angle, slant = _either_way(inpt, self._rotation), _either_way(inpt, self._shear)
        wide, high = (1 + _either_way(inpt, self._scale) for _ in range(2))
        cos, sin = angle.cos(), angle.sin()
        # From where to where grid_sample looks: coordinates -1..1, so a translation by half the field is 1.
        rows = (
            (cos / wide, (slant * cos - sin) / high, _either_way(inpt, 2 * self._translation)),
            (sin / wide, (slant * sin + cos) / high, _either_way(inpt, 2 * self._translation)),
            (_either_way(inpt, self._perspective), _either_way(inpt, self._perspective), torch.ones_like(cos)),
        )
        matrix = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # (N, 3, 3)
        y, x = ((torch.arange(size, device=inpt.device) * 2 + 1) / size - 1 for size in (height, width))
        field = torch.stack(
            [*reversed(torch.meshgrid(y, x, indexing="ij")), torch.ones(height, width, device=y.device)]
        )
        seen = matrix @ field.flatten(1)  # (N, 3, H x W)
        # A vanishing point inside the field would fold the image over: the ground then stays in front of it.
        grid = (seen[:, :2] / seen[:, 2:].clamp(min=0.1)).view(n, 2, height, width)
        if self._elastic:
            grid = grid + self._elastic * _smooth(inpt, 2)
        return functional.grid_sample(inpt, grid.permute(0, 2, 3, 1), align_corners=False)


class PadAndCrop(v2.Transform):
    """A shift by whole pixels: a border of ground, then a field of the old size from anywhere inside."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self._pixels = pixels

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return each image moved by up to that many rows and columns."""
        n, _, height, width = inpt.shape
        padded = functional.pad(inpt, [self._pixels] * 4)[:, 0]  # (N, H + 2 p, W + 2 p)
        top, left = torch.randint(2 * self._pixels + 1, (2, n, 1), device=inpt.device)
        rows = top + torch.arange(height, device=inpt.device)  # (N, H)
        columns = left + torch.arange(width, device=inpt.device)  # (N, W)
        every = torch.arange(n, device=inpt.device)
        return padded[every[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


class Mirror(v2.Transform):
    """Left becomes right."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self._probability = probability

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch with some images mirrored."""
        return torch.where(_share(inpt) < self._probability, inpt.flip(-1), inpt)


class Stroke(v2.Transform):
    """Thicker or thinner pens: each image moves towards its dilation or its erosion by 3 x 3."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self._strength = strength

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch with strokes of other widths."""
        amount = _either_way(inpt, self._strength).view(-1, 1, 1, 1)
        thicker = _largest(_largest(inpt, -1), -2)
        thinner = -_largest(_largest(-inpt, -1), -2)
        return inpt + amount.clamp(min=0) * (thicker - inpt) - amount.clamp(max=0) * (thinner - inpt)


class Ink(v2.Transform):
    """A pencil on rough paper: ink that fades as a whole and is broken by the grain."""

    def __init__(self, grain: float, contrast: float) -> None:
        super().__init__()
        self._grain, self._contrast = grain, contrast

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch with paler ink."""
        holes = self._grain * _share(inpt) * torch.rand_like(inpt)
        return inpt * (1 - self._contrast * _share(inpt)) * (1 - holes)


class Blur(v2.Transform):
    """A camera out of focus: each image moves towards the batch blurred most."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self._sigma = sigma

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch with some blur."""
        # Cut at two deviations, or where the mirrored border ends that it reads beyond the field.
        radii = [min(math.ceil(2 * self._sigma), size - 1) for size in reversed(inpt.shape[-2:])]  # columns first
        blurred = v2_functional.gaussian_blur(inpt, [2 * radius + 1 for radius in radii], [self._sigma] * 2)
        return torch.lerp(inpt, blurred, _share(inpt))


class Shadow(v2.Transform):
    """Uneven light: a slow gradient that brightens the dark ground, as a shadow darkens light paper."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self._most = most

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch with what the ground lacks of black; ink stays below 1."""
        ground = (self._most * _share(inpt) * _smooth(inpt, 1)).clamp(0, 1)
        return torch.maximum(inpt, ground + inpt * (1 - ground))


class Erase(v2.Transform):
    """A square without ink: Zhong et al., "Random erasing data augmentation", arXiv 1708.04896."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self._probability = probability

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Return the batch with a hole in some images."""
        height, width = inpt.shape[-2:]
        half = (_SMALLEST_HOLE + (_LARGEST_HOLE - _SMALLEST_HOLE) * _share(inpt)) / 2
        y, x = (torch.arange(size, device=inpt.device) + 0.5 for size in (height, width))
        rows = (y.view(-1, 1) - _share(inpt) * height).abs() < half  # (N, 1, H, 1)
        columns = (x - _share(inpt) * width).abs() < half  # (N, 1, 1, W)
        return inpt.masked_fill(rows & columns & (_share(inpt) < self._probability), 0)
