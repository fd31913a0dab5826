"""A part of a data set on the device, ready to be cut into batches without Python touching an image."""

from __future__ import annotations

import torch

from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, fit_images


class ResidentImages:
    """Images and labels on the device, as bytes: a quarter of what floats would take.

    Args:
        images: of any data set; they are fitted by ``recipe``.
        recipe: how images become the network's input.
        device: where they shall lie.
    """

    def __init__(self, images: ImageSet, recipe: Preprocessing, device: torch.device) -> None:
        fitted = fit_images(images, recipe)
        self._bytes = torch.from_numpy(fitted).to(device)  # (N, H, W)
        self._mean, self._std = recipe.mean, recipe.std
        self.labels = torch.from_numpy(images.labels).to(device)  # (N,)

    def grey(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the images at ``chosen`` as float32 0..1 of shape (n, 1, H, W)."""
        return self._bytes[chosen][:, None].float() / 255

    def normalized(self, grey: torch.Tensor) -> torch.Tensor:
        """Return what ``runtime.preprocessing.normalize`` makes of bytes, for grey levels 0..1 (n, 1, H, W)."""
        return ((grey - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
