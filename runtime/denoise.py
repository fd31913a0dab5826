"""Steps that clean grey images before the character in them is sought: two that smooth, two that tell ink from ground.

Each takes and returns images of one size, uint8 (N, H, W), light ink on dark ground.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LEVELS = np.arange(256)
_PIXELS_AT_ONCE = 2**20  # what stays in a core's own caches, and bounds the memory that a data set takes
# Robust standard deviations above its median at which ground ends; 1.4826 makes the median absolute deviation that of
# a normal distribution (P. Rousseeuw, C. Croux, "Alternatives to the median absolute deviation", JASA 88, 1993).
_GROUND_ENDS = 3 * 1.4826
_INK_SHARE = 0.75  # quantile of the ink that becomes 255: the strokes' core, above their grey edges
# Grey levels from the ground's end to the ink, from which on the ink is believed. Measured, largest of 300: 7.9 on
# 28 x 28 normal noise of deviation 20, and 8.8 under a shade of 40 levels; smallest on the training parts of 460
# photographs of pen on paper: 20.6.
_LEAST_CONTRAST = 12


def denoise(images: NDArray[np.uint8], steps: Sequence[str]) -> NDArray[np.uint8]:
    """Return ``images``, uint8 (N, H, W), after ``steps``, names in ``STEPS``, in their order."""
    if not steps:
        return images
    denoised = np.empty_like(images)
    at_once = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), at_once):
        block = images[start : start + at_once]
        for step in steps:
            block = STEPS[step](block)
        denoised[start : start + at_once] = block
    return denoised


def median(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the median of each pixel's 3 x 3 neighbours, edges replicated.

    Where each column of three is sorted, it is the median of the largest low, the median middle and the smallest high
    (J. L. Smith, "Implementing median filters in XC4000E FPGAs", XCell 23, 1996).
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), "edge")
    low, middle, high = _sorted(padded[:, :-2], padded[:, 1:-1], padded[:, 2:])  # each (N, H, W + 2)
    return _sorted(_sorted(*_beside(low))[2], _sorted(*_beside(middle))[1], _sorted(*_beside(high))[0])[1]


def _sorted(
    a: NDArray[np.uint8], b: NDArray[np.uint8], c: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(low, c), np.maximum(low, np.minimum(high, c)), np.maximum(high, c)


def _beside(rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return three views (N, H, W) of (N, H, W + 2): what stands left of each pixel, the pixel, what stands right."""
    return rows[:, :, :-2], rows[:, :, 1:-1], rows[:, :, 2:]


def gaussian(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images smoothed by 1 2 1 in both directions, edges mirrored at the outermost pixel's centre.

    As OpenCV's ``GaussianBlur`` with a kernel of 3 x 3 and sigma 0 has it, halves rounded up.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), "reflect").astype(np.uint16)
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]  # (N, H, W + 2)
    sixteenfold = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth: NDArray[np.uint8] = ((sixteenfold + 8) >> 4).astype(np.uint8)
    return smooth


def otsu(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images of 255 where there is ink and 0 elsewhere; without ink that stands apart, all is 0."""
    thresholds, _, _ = _ground_and_ink(images)
    return _looked_up(images, np.where(thresholds[:, None] < _LEVELS, 255, 0))


def levels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images whose ground is 0 and whose ink is 255, linear between; without ink that stands apart, all is 0.

    Unlike after ``otsu``, strokes keep their grey edges, which the network knows from its training images.
    """
    _, ground, ink = _ground_and_ink(images)
    return _looked_up(images, 255 * np.clip((_LEVELS - ground[:, None]) / (ink - ground)[:, None], 0, 1))


STEPS = {"median": median, "gaussian": gaussian, "otsu": otsu, "levels": levels}


def otsu_thresholds(histograms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each histogram's highest level of the ground: the split that sets the two classes' means furthest apart.

    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979: the lowest level
    that maximizes the variance between the classes.

    Args:
        histograms: pixels at each grey level, (N, 256).
    """
    ground, mass = histograms.cumsum(axis=1), (histograms * _LEVELS).cumsum(axis=1)  # up to each level
    pixels, total = ground[:, -1:], mass[:, -1:]
    # Its equation 18, times the constant pixels ** 2; whole numbers up to the square, so that equals stay equal.
    distance = (total * ground - pixels * mass).astype(np.float64)
    variance = distance**2 / np.maximum(ground * (pixels - ground), 1)  # 0 where one class is empty
    best: NDArray[np.int64] = variance.argmax(axis=1)
    return best


def _ground_and_ink(images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each image's threshold, the level where its ground ends and that of its ink, each (N,).

    Where no ink stands apart, nothing is above the threshold, and the ink's level is infinite.
    """
    histograms = _histograms(images)
    thresholds = otsu_thresholds(histograms)
    ground_pixels = np.where(thresholds[:, None] >= _LEVELS, histograms, 0)
    ink_pixels = histograms - ground_pixels
    every_level = np.broadcast_to(_LEVELS.astype(np.float64), histograms.shape)
    middle = _quantile(every_level, ground_pixels, 0.5)
    deviations = np.abs(_LEVELS - middle[:, None])
    ascending = deviations.argsort(axis=1)
    deviations, pixels = (np.take_along_axis(array, ascending, axis=1) for array in (deviations, ground_pixels))
    ground = middle + _GROUND_ENDS * _quantile(deviations, pixels, 0.5)
    ink = _quantile(every_level, ink_pixels, _INK_SHARE)
    apart = ground_pixels.any(axis=1) & ink_pixels.any(axis=1) & (ink - ground >= _LEAST_CONTRAST)
    return np.where(apart, thresholds, 255), ground, np.where(apart, ink, np.inf)


def _histograms(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many pixels of each image have each grey level, (N, 256)."""
    return np.bincount(_places(images).ravel(), minlength=256 * len(images)).reshape(-1, 256)


def _places(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return where in a table (N, 256), laid out flat, each pixel's level stands in its image's row, (N, H, W)."""
    return images + 256 * np.arange(len(images))[:, None, None]


def _quantile(values: NDArray[np.float64], counts: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """Return each row's quantile as ``numpy.quantile`` does, (N,), of ascending ``values`` that occur ``counts`` times.

    A row without any has its last value.
    """
    up_to = counts.cumsum(axis=1)
    position = share * np.maximum(up_to[:, -1] - 1, 0)
    lower, upper = (_ranked(values, up_to, rank) for rank in (np.floor(position), np.ceil(position)))
    between: NDArray[np.float64] = lower + (position % 1) * (upper - lower)
    return between


def _ranked(values: NDArray[np.float64], up_to: NDArray[np.int64], rank: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's value at ``rank`` counted from 0; ``up_to`` counts the values up to each."""
    column = np.minimum((up_to <= rank[:, None]).sum(axis=1), values.shape[1] - 1)
    return np.take_along_axis(values, column[:, None], axis=1)[:, 0]


def _looked_up(images: NDArray[np.uint8], tables: NDArray[np.number]) -> NDArray[np.uint8]:
    """Return images with each grey level replaced, rounded, by what its image's row of ``tables`` (N, 256) has."""
    replaced: NDArray[np.uint8] = np.rint(tables).astype(np.uint8).take(_places(images))
    return replaced
