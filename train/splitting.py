"""Which images are held out, the same ones always and each class by its share; and few of each class, by a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import ConfigError
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


def per_class(images: ImageSet, count: int, seed: int) -> ImageSet:
    """Return ``count`` images of each class, drawn by ``seed`` and in the original order: a data set of few images.

    Raises:
        ConfigError: ``count`` is below 1, or a class has fewer images.
    """
    sizes = np.bincount(images.labels, minlength=len(images.classes))
    fewest = int(sizes.argmin())
    if not 1 <= count <= sizes[fewest]:
        raise ConfigError(
            f"expected 1 to {sizes[fewest]:,} images per class, as many as class {images.classes[fewest]!r} has, "
            f"found {count}"
        )
    random = np.random.RandomState(seed % 2**32)  # it takes 32 bits
    chosen = [random.permutation(np.flatnonzero(images.labels == label))[:count] for label in range(len(sizes))]
    return images.take(np.sort(np.concatenate(chosen)))
