"""How a row's accuracy changed between two results on the same images, and whether by more than chance.

A result holds how many images a row gets right, not which. McNemar's test wants those that one of the two alone gets
right; how many that can be is known within bounds, which are narrow where few answers are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quillrt.train.mcnemar import mcnemar

from .measured import Accuracy


@dataclass(frozen=True)
class AccuracyChange:
    """The accuracy after, against that before.

    Attributes:
        images: how many.
        points: the change.
        p_low: McNemar's exact p if the two err on the same images as far as they can.
        p_high: the same if they err on different ones as far as they can.
    """

    images: int
    points: float
    p_low: float
    p_high: float


def accuracy_change(old: Accuracy | None, new: Accuracy | None) -> AccuracyChange | None:
    """Return the change, ``None`` where one is not told or they were found on different numbers of images."""
    if old is None or new is None or old.images != new.images:
        return None
    images, before, after = old.images, old.images - old.right, new.images - new.right
    both_wrong = min(before, after), max(0, before + after - images)  # at most, at least
    p = [_p(after - both, before - both) for both in both_wrong]
    return AccuracyChange(images, 100 * (before - after) / images, *p)


def _p(only_old: int, only_new: int) -> float:
    """Return McNemar's p where so many images are right before alone, and after alone."""
    first = np.repeat((True, False), (only_old, only_new))
    return mcnemar(first, ~first).p
