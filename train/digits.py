"""The embedded data set: 1,797 real digits that scikit-learn ships, so that everything runs without a network.

Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998: 8 x 8 counts of 0 to 16 inked
pixels, by 13 writers. The file does not tell the writers apart, so the parts share them.
"""

from __future__ import annotations

import numpy as np

from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import centre_character


def read_digits() -> ImageSet:
    """Return all digits, brought from 8 x 8 to 28 x 28 the way MNIST was made."""
    from sklearn.datasets import load_digits

    counts, labels = load_digits(return_X_y=True)  # (N, 64) float64 of 0..16, (N,)
    grey = np.round(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.stack([centre_character(image) for image in grey])
    return ImageSet(images, labels.astype(np.int64), tuple("0123456789"))
