"""Writing or texture: three figures of a fitted image that are alike for characters of all classes.

All lengths go by the image's size, so that they hold for 28 x 28 and 64 x 64; none changes when the character is moved
within its field, mirrored or turned by a right angle. They are found on rows laid end to end, with black between
them: at one image numpy's calls cost more than its arithmetic, and flat rows need fewer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIGURES = ("parts", "smooth", "thick")
# Of the shorter side. Of steps of 2, 3 and 4 pixels of 28 and squares of 3, 5 and 7, with these two the fewest crops of
# five photographs and blurred noise passed at 0.3 % of MNIST's and EMNIST's held-out characters.
_STEP = 1 / 14
_SQUARE = 1 / 6


def figures(fitted: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return ``FIGURES`` of light ink on dark, uint8 (N, H, W), each (N,).

    ``parts`` is log(1 + |connected parts - holes|) of what is lighter than half of the lightest pixel: 0 to 1.1 for
    letters and digits, more for grain. The difference is Euler's number, corners - sides + squares of the union of
    pixels.
    ``smooth``, 0 to 1, is how much grey levels change over 1/14 of the shorter side (2 pixels of 28), by what they
    would if the changes from pixel to pixel all added up: hairlines and grain take back what they give.
    ``thick``, 0 to 1, is the share of ink that is left when each pixel becomes the darkest of a square of 1/6 of the
    shorter side (5 pixels of 28): little of strokes, much of areas.
    """
    count, height, width = fitted.shape
    side = min(height, width)
    step, square = max(2, round(side * _STEP)), max(3, round(side * _SQUARE))
    pitch = width + step  # black at the end of a row is also that before the next one
    rows = height + 2 * step + 1
    flat = np.zeros((count, rows * pitch), np.uint8)
    flat.reshape(count, rows, pitch)[:, step : step + height, step:] = fitted
    length = (rows - step) * pitch
    here, further = flat[:, :length], (1, pitch, step, step * pitch)
    # The lighter of each pixel and one further on. What that one adds, twice, is how much levels change on the way.
    lighter = np.array([here, *(np.maximum(here, flat[:, by : by + length]) for by in further)])  # (5, count, length)
    ink, right, below, far_right, far_below = _sums(lighter)
    # A sum that runs over its 32 bits does no harm: the differences fit, and come out as they are.
    change, far = right + below - 2 * ink, far_right + far_below - 2 * ink
    return {
        "parts": np.log1p(abs(_euler(lighter[:3], pitch))),
        "smooth": far / (float(step) * np.maximum(change, 1)),
        "thick": _sums(_darkest(flat, square, pitch)) / np.maximum(ink, 1),
    }


def _euler(lighter: NDArray[np.uint8], pitch: int) -> NDArray[np.int64]:
    """Return the number of parts, joined by side or corner, less that of holes, (N,).

    Args:
        lighter: (3, N, M), levels, and the lighter ones of each two side by side and one below the other: ink is on a
            side if it is on one of both.
        pitch: pixels from one row to the next.
    """
    square, upright, level = (lighter > lighter[0].max(axis=1, keepdims=True) // 2).view(np.int8)
    corner = upright[:, pitch:] | upright[:, :-pitch]
    number: NDArray[np.int64] = (corner + (square - upright - level)[:, :-pitch]).sum(axis=1, dtype=np.int64)
    return number


def _darkest(flat: NDArray[np.uint8], size: int, pitch: int) -> NDArray[np.uint8]:
    """Return the lowest level of each square of ``size`` pixels, (N, M); those that lie across two rows are black."""
    seen = 1
    while seen < size:
        step = min(seen, size - seen)
        flat = np.minimum(flat[:, step:], flat[:, :-step])
        flat = np.minimum(flat[:, step * pitch :], flat[:, : -step * pitch])
        seen += step
    return flat


def _sums(levels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return sums over the last axis, modulo 2^32: enough for 4096 x 4096, and twice as fast for bytes as 64 bits."""
    found: NDArray[np.uint32] = levels.sum(axis=-1, dtype=np.uint32)
    return found
