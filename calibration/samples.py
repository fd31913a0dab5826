"""Which images calibrate: drawn by class from the training part, each named by its hash."""

from __future__ import annotations

import hashlib

import numpy as np

from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing


def draw_samples(training: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Return ``count`` images of ``training``, the classes as equally often as their sizes allow, in random order.

    Raises:
        CalibrationError: a class has no image, there are fewer images than ``count``, or ``count`` is not positive.
    """
    images = np.bincount(training.labels, minlength=len(training.classes))
    if not images.all():
        empty = training.classes[int(np.argmin(images))]
        raise CalibrationError(
            f"expected images of each class in the training part, found none of {empty!r}; add some or drop the class"
        )
    if not 0 < count <= len(training):
        raise CalibrationError(
            f"expected 1 to {len(training)} calibration samples, the size of the training part, found {count}"
        )
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(training))
    labels = training.labels[shuffled]
    # Rank of each image within its class: taking the lowest ranks first deals the classes out in turn.
    rank = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        rank[of_class] = np.arange(of_class.size)
    dealt = shuffled[np.argsort(rank, kind="stable")[:count]]
    return training.take(rng.permutation(dealt))


def random_samples(classes: tuple[str, ...], recipe: Preprocessing, count: int, seed: int = 0) -> ImageSet:
    """Return ``count`` images of noise: for trying engines out where no data are, never for their accuracy."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, recipe.height, recipe.width), np.uint8)
    return ImageSet(images, np.arange(count) % len(classes), classes, fitted=recipe)


def sample_hashes(samples: ImageSet) -> tuple[str, ...]:
    """Return the first 16 hexadecimal digits of the sha256 of each image's bytes, in order."""
    return tuple(hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in samples.images)
