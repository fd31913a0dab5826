"""Windows that slide over grey images: the highest and lowest level inside, closing, the mean.

Each takes and returns one image or several, uint8 (..., H, W). An image is taken to go on beyond its
edge as it ends there, so windows of highest and lowest levels might as well be cut at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = -2, -1  # axes
T = TypeVar("T", np.uint8, np.uint16)


def highest(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the highest level in a window of ``rows`` x ``columns``, both odd, around each pixel."""
    return _both_ways(image, rows, columns, np.maximum, 1)


def lowest(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the lowest level in a window of ``rows`` x ``columns``, both odd, around each pixel."""
    return _both_ways(image, rows, columns, np.minimum, 1)


def closing(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the image with what is dark and fits no window filled; steps between wide areas stay where they are.

    Beyond the edge, too, so that a shadow that reaches the edge is no stroke.
    """
    return _both_ways(_both_ways(image, rows, columns, np.maximum, 2), rows, columns, np.minimum, 0)


def extended(image: NDArray[T], room: int, axis: int) -> NDArray[T]:
    """Return the image with ``room`` more pixels at either end of ``axis``, each as the image ends there."""
    if not room:
        return image
    shape = list(image.shape)
    shape[axis] += 2 * room
    wide = np.empty(shape, image.dtype)
    along, source = wide.swapaxes(0, axis), image.swapaxes(0, axis)
    along[:room], along[room : room + len(source)], along[room + len(source) :] = source[0], source, source[-1]
    return wide


def mean(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of nine pixels around each pixel: that of three in a row, rounded, and then of three of these."""
    for axis in (COLUMNS, ROWS):
        wide = extended(image, 1, axis).swapaxes(0, axis)
        thrice = wide[:-2].astype(np.uint16) + wide[1:-1] + wide[2:]
        image = ((thrice + 1) // 3).astype(np.uint8).swapaxes(0, axis)
    return image


def odd(size: float) -> int:
    """Return the odd whole number nearest to ``size``, 3 or more."""
    return max(3, 2 * round((size - 1) / 2) + 1)


def _both_ways(
    image: NDArray[np.uint8], rows: int, columns: int, better: Callable[..., NDArray[np.uint8]], halves: int
) -> NDArray[np.uint8]:
    """Return the best level in each window that lies within the image extended by ``halves`` of its half sides."""
    for size, axis in ((rows, ROWS), (columns, COLUMNS)):
        if size > 1:
            image = _slide(extended(image, halves * (size // 2), axis), size, axis, better)
    return image


def _slide(
    image: NDArray[np.uint8], size: int, axis: int, better: Callable[..., NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return the best level in each window of ``size``, odd, that lies within the image along ``axis``, by doubling.

    Each pass sees twice as far as the last: log2(size) passes over bytes, which numpy does 64 at a time.
    """
    found, seen = image.swapaxes(0, axis), 1
    while 2 * seen < size:
        found = better(found[:-seen], found[seen:])
        seen *= 2
    return better(found[: seen - size], found[size - seen :]).swapaxes(0, axis)
