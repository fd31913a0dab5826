"""The paper taken off a photograph: what is left is ink, whatever light fell on it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .windows import closing, mean, odd

# A shadow takes the same share of light from ink and paper, so their difference in the logarithm stays. The offset, in
# grey levels, keeps the noise of deep shadows from standing out as ink does.
_OFFSET = 14
_RANGE = np.log1p(255 / _OFFSET)
_LOG = np.rint(255 / _RANGE * np.log1p(np.arange(256) / _OFFSET)).astype(np.uint8).tobytes()
# From a difference of logarithms back to a share of the paper's light, 0 to 255.
_SHARE = np.rint(255 * -np.expm1(-np.arange(256) * _RANGE / 255) / -np.expm1(-_RANGE)).astype(np.uint8).tobytes()

_WINDOWS = (0.015, 0.03, 0.06, 0.12, 0.24)  # of the shorter side, in which strokes are sought, and
_CROP_WINDOWS = (0.08, 0.16, 0.3, 0.5)  # on crops
CROP = 100  # pixels of the shorter side below which an image is a crop, which the character fills
_SIDE = 250  # pixels of the shorter side of the small copy on which they are sought, about
_STRONGEST, _FEWEST = 0.0004, 8  # share and least number of pixels that are taken for ink
_STRONG = 0.65  # of their contrast with the paper, from which on a pixel is strong ink
_REACHED = 0.9  # of the strong ink that the largest window shows
_ROOM = 1.5  # for strokes that are broader elsewhere


def log_levels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the logarithms of grey levels, 0 to 255, in which a shadow is the same step everywhere."""
    return _looked_up(grey, _LOG)


def flatten(grey: NDArray[np.uint8], window: int, *, calm: bool) -> NDArray[np.uint8]:
    """Return ink, uint8 (H, W), light on black: how much darker a pixel is than the paper around it.

    The paper is the closing of the image: it follows the edges of shadows, however hard, which a mean would smear.

    Args:
        grey: dark ink on light paper.
        window: pixels, odd; strokes are narrower.
        calm: take the mean of nine pixels first, against noise.
    """
    levels = log_levels(mean(grey) if calm else grey)
    return _looked_up(closing(levels, window, window) - levels, _SHARE)


def stroke_window(grey: NDArray[np.uint8]) -> int:
    """Return the side, odd, of a square that strokes are narrower than; ``grey`` is dark ink on light paper, (H, W).

    It is the smallest of a few that leaves nearly all of the strong ink dark against the paper: in a smaller one the
    middle of a broad stroke is taken for paper.
    """
    factor = max(1, round(min(grey.shape) / _SIDE))
    small = grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))
    side = min(small.shape)
    windows = sorted({odd(share * side) for share in (_WINDOWS if side >= CROP else _CROP_WINDOWS)})
    count = min(max(_FEWEST, round(_STRONGEST * small.size)), small.size)
    contrasts = [(closing(small, window, window) - small).ravel() for window in windows]
    strong = math.ceil(_STRONG * np.partition(contrasts[-1], -count)[-count])
    areas = np.array([np.count_nonzero(contrast >= strong) for contrast in contrasts])
    return odd(max(5, windows[int(np.argmax(areas >= _REACHED * areas[-1]))] * factor * _ROOM))


def _looked_up(levels: NDArray[np.uint8], table: bytes) -> NDArray[np.uint8]:
    """Return what ``table``, of 256, has for each level; for bytes Python's own way is the fastest on any size."""
    return np.frombuffer(levels.tobytes().translate(table), np.uint8).reshape(levels.shape)
