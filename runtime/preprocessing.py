"""From a grey image of any size to the tensor a network reads: the one recipe that training and the runtime share.

The character recipe is MNIST's own (LeCun, Cortes, Burges, "The MNIST database", 1998): the ink's bounding box is
scaled to fit 20 x 20 keeping its aspect, then laid into 28 x 28 with its centre of mass in row 14 and column 14,
counted from 0 and rounded to whole pixels, as in each of MNIST's 10,000 test images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import SpecError

FITS = ("character", "resize")
_BOX = 20 / 28  # MNIST's box over its field
_INK = 32  # grey level from which a pixel counts as ink when the bounding box is sought


@dataclass(frozen=True)
class Preprocessing:
    """How images become network input.

    Attributes:
        height: rows of the network's input.
        width: columns of the network's input.
        mean: subtracted after grey levels are scaled to 0..1.
        std: divisor after that.
        fit: ``character`` (light ink on dark ground, boxed and centred as in MNIST) or ``resize`` (scaled as it is).
    """

    height: int = 28
    width: int = 28
    mean: float = 0.0
    std: float = 1.0
    fit: str = "character"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise SpecError(f"image size must be positive, but is {self.height} x {self.width}")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise SpecError(f"mean must be finite and std positive, but are {self.mean} and {self.std}")
        if self.fit not in FITS:
            raise SpecError(f"fit must be one of {', '.join(FITS)}, but is {self.fit!r}")


def normalize(images: NDArray[np.uint8], recipe: Preprocessing, channels: int = 1) -> NDArray[np.float32]:
    """Return ``(image / 255 - mean) / std`` as float32 (N, channels, H, W) for uint8 images (N, H, W).

    Raises:
        SpecError: ``images`` is not uint8 of the recipe's size.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (recipe.height, recipe.width):
        raise SpecError(
            f"images must be uint8 of shape (N, {recipe.height}, {recipe.width}), "
            f"but are {images.dtype} of shape {images.shape}"
        )
    # One look-up per pixel: a grey level has 256 values, so each is normalized once.
    table = ((np.arange(256) / 255 - recipe.mean) / recipe.std).astype(np.float32)
    batch: NDArray[np.float32] = table[images][:, None]  # (N, 1, H, W)
    return batch if channels == 1 else np.repeat(batch, channels, axis=1)


def fit_image(image: NDArray[np.uint8], recipe: Preprocessing) -> NDArray[np.uint8]:
    """Return ``image``, uint8 (H, W) of any size, as uint8 (recipe.height, recipe.width)."""
    if recipe.fit == "character":
        image = light_ink(image)
    if image.shape == (recipe.height, recipe.width):
        return image
    if recipe.fit == "resize":
        return resize(image, recipe.height, recipe.width)
    return centre_character(image, recipe.height, recipe.width)


def fit_images(images: NDArray[np.uint8], recipe: Preprocessing) -> NDArray[np.uint8]:
    """Return images of a data set, uint8 (N, H, W), as uint8 (N, recipe.height, recipe.width)."""
    if images.shape[1:] == (recipe.height, recipe.width):
        return images
    return np.stack([fit_image(image, recipe) for image in images])


def light_ink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``image`` with light ink on dark ground; the median of the border tells the ground."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return 255 - image if np.median(border) > 127 else image


def centre_character(image: NDArray[np.uint8], height: int = 28, width: int = 28) -> NDArray[np.uint8]:
    """Return light ink on dark ground, uint8 (H, W), boxed and centred by mass as in MNIST; a blank image stays blank.

    Ink that would leave the field when the centre of mass is moved to the middle is kept inside it.
    """
    field = np.zeros((height, width), np.uint8)
    ink = image >= _INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if rows.size == 0:
        return field
    character = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(height * _BOX / character.shape[0], width * _BOX / character.shape[1])
    box_height = max(1, round(character.shape[0] * scale))
    box_width = max(1, round(character.shape[1] * scale))
    character = resize(character, box_height, box_width)
    mass = character.astype(np.float64)
    if mass.sum() == 0:  # a speck that vanished in scaling
        return field
    centre_row = (mass.sum(axis=1) * np.arange(box_height)).sum() / mass.sum()
    centre_column = (mass.sum(axis=0) * np.arange(box_width)).sum() / mass.sum()
    top = int(np.clip(round(height / 2 - centre_row), 0, height - box_height))
    left = int(np.clip(round(width / 2 - centre_column), 0, width - box_width))
    field[top : top + box_height, left : left + box_width] = character
    return field


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return uint8 (height, width) by Pillow's bilinear filter, which averages over the area when it shrinks."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
