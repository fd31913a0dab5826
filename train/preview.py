"""What a network sees while it trains."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from quillrt.runtime.preprocessing import fit_images

from .augmentation import build_augmentation
from .datasets import Splits
from .policies import Augmentation
from .seeding import seeded


def varied(
    splits: Splits, amounts: Augmentation, images: int, draws: int, seed: int
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return training images, each followed by ``draws`` variations, and a caption for each: the label, then nothing.

    Returns:
        uint8 (images x (1 + draws), H, W), before mean and deviation, and as many captions. The classes take turns.
    """
    labels = splits.train.labels
    turn = np.zeros(len(labels), np.int64)  # how many of its class stand before an image
    for label in range(len(splits.classes)):
        own = np.flatnonzero(labels == label)
        turn[own] = np.arange(len(own))
    chosen = splits.train.take(np.lexsort((labels, turn))[:images])
    fitted = fit_images(chosen, splits.preprocessing)  # (n, H, W)
    grey = torch.from_numpy(fitted)[:, None].float() / 255
    augment = build_augmentation(amounts)
    with seeded(seed):
        rows = [grey, *(grey if augment is None else augment(grey) for _ in range(draws))]
    sheet = torch.stack(rows, dim=1)[:, :, 0]  # (n, 1 + draws, H, W)
    levels: NDArray[np.uint8] = (sheet.clamp(0, 1) * 255).round().byte().flatten(0, 1).numpy()
    names = [splits.classes[label] for label in chosen.labels]
    return levels, [caption for name in names for caption in (name, *[""] * draws)]
