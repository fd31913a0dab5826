"""One grey image out of a photograph, dark ink on light paper: the mix of channels in which the ink stands out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .background import CROP, log_levels
from .windows import closing, highest, lowest, mean, odd

_SIDE = 320  # pixels of the longer side of the small copy on which the mix is sought, at most
# Windows in which ink and paper are compared, over the shorter side: from a pen's stroke on a sheet to a character.
_SHEET_WINDOWS, _CROP_WINDOWS = (0.03, 0.06, 0.12, 0.24), (0.1, 0.2, 0.4, 0.8)
_STRONGEST = 0.001  # share of pixels, and
_NOISE = 14  # logarithmic levels, up to which a pixel does not stand out: a sixth of the light
_OF_STRONGEST = 0.6  # of their contrast, from which on a pixel stands out
_FEWEST = 12  # number of pixels at least, that are taken for ink
_GROUND = 0.4  # of the ink's contrast, up to which a pixel is taken for ground
_PLAIN = 16  # grey levels between which 90 % of a plain rim lies,
_CROP_SIDE = 128  # of an image of this longer side at most: around a sheet on a desk there is the desk
_LEAST_DEVIATION = 2.0  # grey levels that no channel's ground is taken to be calmer than


@dataclass(frozen=True)
class InkMix:
    """How much of red, green and blue makes the grey image, and whether it is to be turned.

    Attributes:
        weights: of the channels, their sum 1.
        light_ink: the ink is lighter than its ground, as on a blackboard.
    """

    weights: tuple[float, float, float]
    light_ink: bool

    def grey(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return dark ink on light ground, uint8 (H, W), of an image of mode L or RGB."""
        grey = np.asarray(image if image.mode == "L" else image.convert("L", (*self.weights, 0.0)))
        return 255 - grey if self.light_ink else grey


def find_mix(image: Image.Image) -> InkMix:
    """Return the mix for an image of mode L or RGB.

    The weights are those of Fisher's discriminant with the channels taken for independent: ink's mean contrast over
    the ground's variance (R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936). So red ink is
    seen in green and blue, and pale blue squares, which are part of the ground, in red little.
    """
    small = image.reduce(max(1, -(-max(image.size) // _SIDE)))
    is_crop = min(small.size) < CROP
    light_ink = _is_light_ink(np.asarray(small.convert("L")), is_crop=is_crop)
    if small.mode == "L":
        return InkMix((1 / 3, 1 / 3, 1 / 3), light_ink)
    window = odd(min(small.size) / (2 if is_crop else 8))
    levels = np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))  # (3, H, W)
    levels = 255 - levels if light_ink else levels
    levels = levels if is_crop else mean(levels)
    contrast = (closing(levels, window, window) - levels).reshape(3, -1)
    total = contrast.sum(axis=0, dtype=np.uint16)
    count = min(max(_FEWEST, round(_STRONGEST * total.size)), total.size)
    ink = contrast[:, np.argpartition(total, -count)[-count:]].mean(axis=1)
    # Never empty: at the image's corners the closing is the image.
    is_ground = total <= math.floor(_GROUND * ink.sum())
    weights = ink / (_deviation(contrast * is_ground, int(is_ground.sum())) + _LEAST_DEVIATION) ** 2
    share = weights / weights.sum() if weights.sum() > 0 else np.full(3, 1 / 3)
    return InkMix((float(share[0]), float(share[1]), float(share[2])), light_ink)


def _deviation(levels: NDArray[np.uint8], count: int) -> NDArray[np.float64]:
    """Return the standard deviation of each row's ``count`` levels; the row's others are 0."""
    sums, squares = levels.sum(axis=1, dtype=np.int64), np.square(levels, dtype=np.uint16).sum(axis=1, dtype=np.int64)
    deviation: NDArray[np.float64] = np.sqrt(count * squares - sums**2) / count
    return deviation


def _is_light_ink(grey: NDArray[np.uint8], *, is_crop: bool) -> bool:
    """Return whether most pixels around what is thin and stands out are dark.

    Where a window holds ink and paper, paper has the greater part. What is thin vanishes in closing or opening; the
    edges of shadows and of the sheet do not, so they do not count. A crop with a plain rim tells by that alone: of
    broad, blurred strokes what is thin is what they enclose.
    """
    if max(grey.shape) <= _CROP_SIDE:
        rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        dark, middle, light = np.quantile(rim, [0.05, 0.5, 0.95])
        if light - dark <= _PLAIN:
            return bool(int(grey.max()) - middle > middle - int(grey.min()))
    levels = log_levels(grey if is_crop else mean(grey))
    lightness = 0.0
    for share in _CROP_WINDOWS if is_crop else _SHEET_WINDOWS:
        window = odd(share * min(grey.shape))
        low, high = lowest(levels, window, window), highest(levels, window, window)
        thin = np.maximum(lowest(high, window, window) - levels, levels - highest(low, window, window))
        count = min(max(_FEWEST, round(_STRONGEST * thin.size)), thin.size)
        strong = thin >= max(_NOISE, math.ceil(_OF_STRONGEST * np.partition(thin.ravel(), -count)[-count]))
        around = (highest(strong.view(np.uint8), window, window) > 0) & (high > low)
        if around.any():
            reach = (high[around] - low[around]).astype(np.float32)
            lightness += float(((levels[around] - low[around]) / reach).mean()) - 0.5
    return lightness < 0
