"""A labelled set of images as plain arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .preprocessing import Preprocessing


@dataclass(frozen=True)
class ImageSet:
    """Images with labels.

    Attributes:
        images: uint8 (N, H, W), light ink on dark.
        labels: int64 (N,), each an index into ``classes``.
        classes: names of the labels.
        fitted: the recipe that has fitted the images, whatever its mean and std; ``None``: they are as they came.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    fitted: Preprocessing | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 3:
            raise DataError(
                f"expected images uint8 of shape (N, H, W), found {self.images.dtype} of shape {self.images.shape}; "
                "give grey levels from 0 to 255"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"expected labels int64 of shape {self.images.shape[:1]}, "
                f"found {self.labels.dtype} of shape {self.labels.shape}; give each image one index into the classes"
            )
        if self.labels.size and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"expected labels in 0..{len(self.classes) - 1}, found {self.labels.min()}..{self.labels.max()}; "
                "name every class"
            )
        if self.fitted and self.images.shape[1:] != (self.fitted.height, self.fitted.width):
            raise DataError(
                f"expected images of {self.fitted.height} x {self.fitted.width}, as {self.fitted} makes them, "
                f"found {self.images.shape[1]} x {self.images.shape[2]}; leave out fitted"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.integer]) -> ImageSet:
        """Return the images at ``indices``, in that order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def sha256(self) -> str:
        """Return the sha256 of shape, grey levels, labels and classes, in hexadecimal: it names the images."""
        found = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        for values in (self.images, self.labels.astype("<i8")):
            found.update(values.tobytes())
        return found.hexdigest()
