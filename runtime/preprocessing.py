"""From a grey image of any size to the tensor a network reads: the one recipe that training and the runtime share.

The character recipe is MNIST's own (LeCun, Cortes, Burges, "The MNIST database", 1998): the ink's bounding box is
scaled to fit 20 x 20 keeping its aspect, then laid into 28 x 28 with its centre of mass in row 14 and column 14,
counted from 0 and rounded to whole pixels, as in each of MNIST's 10,000 test images. EMNIST (Cohen et al., arXiv
1702.05373) leaves two pixels around the box and has the box itself, not the mass, in the middle. Before that, a
photograph's ground and noise may be taken off by the recipe's denoising steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .denoise import STEPS, denoise
from .errors import SpecError
from .typed import NUMBER, checked, each_checked, only

if TYPE_CHECKING:
    from .imageset import ImageSet

_BOXES = {"character": 20 / 28, "emnist": 24 / 28}  # the box over the field, of characters that get one
FITS = (*_BOXES, "resize")
_LARGEST = 4096  # rows, or columns, that a network may want: a manifest must not claim all memory
_MOST_STEPS = 8
_PIXELS_AT_ONCE = 2**20  # of images of one size that are fitted together
_INK = 32  # grey level from which a pixel counts as ink when the bounding box is sought


@dataclass(frozen=True)
class Preprocessing:
    """How images become network input.

    Attributes:
        height: rows of the network's input.
        width: columns of the network's input.
        mean: subtracted after grey levels are scaled to 0..1.
        std: divisor after that.
        fit: ``character`` (light ink on dark ground, boxed and centred as in MNIST), ``emnist`` (the same as in EMNIST)
            or ``resize`` (scaled as it is).
        denoise: steps out of ``denoise.STEPS``, in their order; they take light ink on dark ground, which ``resize``
            does not see to.
    """

    height: int = 28
    width: int = 28
    mean: float = 0.0
    std: float = 1.0
    fit: str = "character"
    denoise: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (1 <= self.height <= _LARGEST and 1 <= self.width <= _LARGEST):
            raise SpecError(f"image size must be 1 to {_LARGEST} each way, but is {self.height} x {self.width}")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise SpecError(f"mean must be finite and std positive, but are {self.mean} and {self.std}")
        if self.fit not in FITS:
            raise SpecError(f"fit must be one of {', '.join(FITS)}, but is {self.fit!r}")
        if strange := [step for step in self.denoise if step not in STEPS]:
            raise SpecError(
                f"denoise must be steps out of {', '.join(STEPS)}, but has {', '.join(repr(step) for step in strange)}"
            )
        if len(self.denoise) > _MOST_STEPS:
            raise SpecError(f"denoise must be {_MOST_STEPS} steps at most, but is {len(self.denoise)}")

    def fits_like(self, other: Preprocessing) -> bool:
        """Tell whether both make the same image of one: all but mean and std agree."""
        return replace(self, mean=0.0, std=1.0) == replace(other, mean=0.0, std=1.0)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Return the recipe that ``dataclasses.asdict`` and JSON made plain; older ones lack ``denoise``.

        Raises:
            SpecError: a value cannot be.
            TypeError, AttributeError: ``data`` or a value in it is of another type, or a name is unknown.
        """
        only(data, (each.name for each in fields(cls)), "preprocessing")
        for name, value in data.items():
            if name in ("height", "width", "mean", "std"):
                checked(value, int if name in ("height", "width") else NUMBER, name)
        return cls(**{**data, "denoise": each_checked(data.get("denoise", []), str, "denoise", "a step")})


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
    (fitted,) = _fit(image[None], recipe)
    return np.asarray(fitted)


def fit_each(images: Iterable[NDArray[np.uint8]], recipe: Preprocessing) -> NDArray[np.uint8]:
    """Return ``fit_image`` of each image, uint8 (N, recipe.height, recipe.width).

    Neighbours of one size go together, which saves small ones most of the time; large ones are not held together.
    """
    fitted = [np.empty((0, recipe.height, recipe.width), np.uint8)]
    for (height, width), alike in groupby(images, key=np.shape):
        while run := list(islice(alike, max(1, _PIXELS_AT_ONCE // (height * width)))):
            fitted.append(_fit(np.stack(run), recipe))
    return np.concatenate(fitted)


def fit_ink(ink: NDArray[np.uint8], recipe: Preprocessing) -> NDArray[np.uint8]:
    """Return the ink of one character alone, light on black, uint8 (H, W), as uint8 (recipe.height, recipe.width).

    It is cleaned and boxed as the recipe says; where that scales images as they are, as in MNIST.
    """
    (cleaned,) = denoise(ink[None], recipe.denoise)
    return centre_character(cleaned, recipe.height, recipe.width, recipe.fit if recipe.fit in _BOXES else "character")


def fit_images(images: ImageSet, recipe: Preprocessing) -> NDArray[np.uint8]:
    """Return a data set's images as uint8 (N, recipe.height, recipe.width), fitted once and never twice.

    Raises:
        SpecError: another recipe fitted them before.
    """
    if images.fitted is None:
        return _fit(images.images, recipe)
    if not images.fitted.fits_like(recipe):
        raise SpecError(
            f"expected images as they came, or fitted by {recipe}, found ones fitted by {images.fitted}; "
            "load the data set with the model's preprocessing"
        )
    return images.images


def _fit(images: NDArray[np.uint8], recipe: Preprocessing) -> NDArray[np.uint8]:
    """Turn, clean, then box or scale images of one size, (N, H, W); those of the recipe's size are not boxed again."""
    if recipe.fit in _BOXES:
        images = light_ink(images)
    images = denoise(images, recipe.denoise)
    if images.shape[1:] == (recipe.height, recipe.width):
        return images
    fitted = np.empty((len(images), recipe.height, recipe.width), np.uint8)
    for row, image in zip(fitted, images, strict=True):
        if recipe.fit in _BOXES:
            row[:] = centre_character(image, recipe.height, recipe.width, recipe.fit)
        else:
            row[:] = resize(image, recipe.height, recipe.width)
    return fitted


def light_ink(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (N, H, W) with light ink on dark ground; the median of each one's border tells its ground."""
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    light_ground = np.median(border, axis=1) > 127  # (N,)
    turned: NDArray[np.uint8] = np.where(light_ground[:, None, None], 255 - images, images)
    return turned


def centre_character(
    image: NDArray[np.uint8], height: int = 28, width: int = 28, fit: str = "character"
) -> NDArray[np.uint8]:
    """Return light ink on dark ground, uint8 (H, W), boxed and centred as ``fit`` says; a blank image stays blank.

    Ink that would leave the field when the centre of mass is moved to the middle is kept inside it.
    """
    field = np.zeros((height, width), np.uint8)
    ink = image >= _INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if rows.size == 0:
        return field
    character = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(height * _BOXES[fit] / character.shape[0], width * _BOXES[fit] / character.shape[1])
    box_height = max(1, round(character.shape[0] * scale))
    box_width = max(1, round(character.shape[1] * scale))
    character = resize(character, box_height, box_width)
    mass = character.astype(np.float64)
    if mass.sum() == 0:  # a speck that vanished in scaling
        return field
    if fit == "character":
        centre_row = (mass.sum(axis=1) * np.arange(box_height)).sum() / mass.sum()
        centre_column = (mass.sum(axis=0) * np.arange(box_width)).sum() / mass.sum()
    else:
        centre_row, centre_column = box_height / 2, box_width / 2
    top = int(np.clip(round(height / 2 - centre_row), 0, height - box_height))
    left = int(np.clip(round(width / 2 - centre_column), 0, width - box_width))
    field[top : top + box_height, left : left + box_width] = character
    return field


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return uint8 (height, width) by Pillow's bilinear filter, which averages over the area when it shrinks."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
