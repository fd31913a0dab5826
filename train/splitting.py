"""Which images are held out: the same ones always, each class by its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.imageset import ImageSet

_SEED = 20_240  # of the parts, never of the training: parts stay the same whatever --seed says


def hold_out(images: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """Return ``images`` without ``count`` of them, and those: disjoint, both in the original order.

    Each class gives in proportion to its size (largest remainders), and at least one image if it has any.
    """
    sizes = np.bincount(images.labels, minlength=len(images.classes))
    exact = count * sizes / max(1, len(images))
    take = np.minimum(sizes, np.maximum(1, np.floor(exact))).astype(np.int64)
    by_remainder = np.argsort(take - exact, kind="stable")
    take[by_remainder[: max(0, count - int(take.sum()))]] += 1
    # RandomState: numpy promises never to change its stream, which it does not for Generator.
    random = np.random.RandomState(_SEED)
    held: NDArray[np.bool_] = np.zeros(len(images), bool)
    for label, number in enumerate(take):
        held[random.permutation(np.flatnonzero(images.labels == label))[:number]] = True
    return images.take(np.flatnonzero(~held)), images.take(np.flatnonzero(held))
