"""Windows that slide over grey images: the highest and lowest level inside, closing, the mean.

Each takes and returns uint8 (H, W); windows are cut at the image's edge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter


def highest(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the highest level in a window of ``rows`` x ``columns``, both odd, around each pixel."""
    return _slide(_slide(image, rows, 0, np.maximum, 0), columns, 1, np.maximum, 0)


def lowest(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the lowest level in a window of ``rows`` x ``columns``, both odd, around each pixel."""
    return _slide(_slide(image, rows, 0, np.minimum, 255), columns, 1, np.minimum, 255)


def closing(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the image with what is dark and fits no window filled; steps between wide areas stay where they are.

    The image is taken to go on beyond its edge as it ends there, so that a shadow that reaches the edge is no stroke.
    """
    above, beside = rows // 2, columns // 2
    wide = np.pad(image, ((above, above), (beside, beside)), "edge")
    height, width = image.shape
    return lowest(highest(wide, rows, columns), rows, columns)[above : above + height, beside : beside + width]


def mean(image: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Return the mean of the square of ``2 * radius + 1`` pixels around each pixel, rounded."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(radius)))


def odd(size: float) -> int:
    """Return the odd whole number nearest to ``size``, 3 or more."""
    return max(3, 2 * round((size - 1) / 2) + 1)


def _slide(
    image: NDArray[np.uint8], size: int, axis: int, better: Callable[..., NDArray[np.uint8]], outside: int
) -> NDArray[np.uint8]:
    """Return the best level among ``size`` along ``axis``, by doubling: each pass sees twice as far as the last.

    It takes log2(size) passes over bytes, which numpy does 64 at a time, whatever the window.
    """
    if size == 1:
        return image
    found = image if axis == 0 else image.T
    length = len(found)
    edge = np.full((size // 2, found.shape[1]), outside, np.uint8)
    found = np.concatenate([edge, found, edge])
    seen = 1
    while 2 * seen <= size:
        found = better(found[:-seen], found[seen:])
        seen *= 2
    found = better(found[:length], found[size - seen :][:length])
    return found if axis == 0 else found.T
