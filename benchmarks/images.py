"""Which images a measurement runs on: real ones wherever they can be had."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.train.datasets import load_dataset, public_name, recorded_name

SYNTHETIC = "synthetic images, seeded noise"
_SEED = 0
_NOISE_SHAPE = (256, 28, 28)


def choose_images(
    training: Mapping[str, Any],
    recipe: Preprocessing = Preprocessing(),
    dataset: str | None = None,
    data_root: Path | None = None,
    part: str = "test",
) -> tuple[str, ImageSet]:
    """Return images and what they are called in a report.

    Where ``dataset`` is ``None``, they are those of the data set that the record ``training`` names, else the embedded
    digits. A device may lack the package that reads these; a latency depends on no image, so noise takes their place.

    Args:
        training: the record of the model's training, may be empty.
        recipe: the model's, by which a folder's images are fitted.
        dataset: as for ``load_dataset``.
        data_root: as for ``load_dataset``.
        part: ``train``, ``validation`` or ``test``.

    Raises:
        ConfigError: there is no such part, or the model was trained on a folder, and none is given.
        DataError: the data cannot be had or are damaged.
        ModuleNotFoundError: a data set that was asked for by name needs a package that is missing.
    """
    name = dataset or recorded_name(training) or "digits"
    try:
        return f"{public_name(name)} {part}", load_dataset(name, data_root, recipe).part(part)
    except ImportError:
        if dataset is not None:
            raise
    return SYNTHETIC, synthetic_images()


def synthetic_images() -> ImageSet:
    """Return seeded noise as images of MNIST's size and classes."""
    grey = np.random.default_rng(_SEED).integers(0, 256, _NOISE_SHAPE, np.uint8)
    return ImageSet(grey, np.arange(len(grey)) % 10, tuple("0123456789"))
