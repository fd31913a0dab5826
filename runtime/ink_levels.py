"""From which level on ink is believed, and where it is full."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .denoise import otsu_thresholds

_LEVELS = np.arange(256)
_GROUND_ENDS = 5 * 1.4826  # robust deviations above the median; see denoise.py
_LEAST_GROUND = 10  # ink, 0 to 255, that paper may seem to have
_APART = 40  # levels between the means of ground and ink from which on Otsu's split is one of ground and ink
_OF_SPLIT = 0.8  # of Otsu's threshold: where the ground then ends
_STRONGEST, _FEWEST = 0.0003, 12  # share and least number of pixels that are taken for full ink
_LEAST_INK = 10  # levels that full ink is above the ground's end
_WEAK, _STRONG = 0.18, 0.35  # how far from the ground's end to full ink


@dataclass(frozen=True)
class InkLevels:
    """Levels of ink, 0 to 255.

    Attributes:
        ground: up to here it is paper.
        weak: above this it is ink if it hangs together with strong ink.
        strong: above this it is ink.
    """

    ground: int
    weak: int
    strong: int


def find_levels(ink: NDArray[np.uint8]) -> InkLevels | None:
    """Return the levels of ``ink``, light on black, uint8 (H, W), ``None`` where nothing stands out of the paper."""
    histogram = np.bincount(ink.ravel(), minlength=256)
    up_to = histogram.cumsum()
    middle = int(np.searchsorted(up_to, ink.size / 2))
    deviations = np.abs(_LEVELS - middle)
    order = deviations.argsort(kind="stable")
    deviation = deviations[order][np.searchsorted(histogram[order].cumsum(), ink.size / 2)]
    ground = middle + max(round(_GROUND_ENDS * deviation), _LEAST_GROUND)
    # Where the character fills the image, its own ink makes the deviation large; there Otsu's split is sure.
    split = int(otsu_thresholds(histogram[None])[0])
    paper, strokes = histogram[: split + 1], histogram[split + 1 :]
    if strokes.any():
        means = [
            float(counts @ levels / counts.sum())
            for counts, levels in ((paper, _LEVELS[: split + 1]), (strokes, _LEVELS[split + 1 :]))
        ]
        if means[1] - means[0] > _APART:
            ground = min(ground, max(round(_OF_SPLIT * split), _LEAST_GROUND))
    count = max(_FEWEST, round(_STRONGEST * ink.size))
    full = 255 - int(np.searchsorted(histogram[::-1].cumsum(), count))
    if full <= ground + _LEAST_INK:
        return None
    return InkLevels(ground, *(round(ground + share * (full - ground)) for share in (_WEAK, _STRONG)))
