"""Connected parts of a black and white image, found by runs: numpy alone labels a photograph in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", np.int8, np.int32)


@dataclass(frozen=True)
class Components:
    """The K parts of a mask (H, W) whose pixels touch by side or corner, and the R runs of pixels they consist of.

    Attributes:
        shape: of the mask, H and W.
        boxes: int64 (K, 4), the first row and column, and the row and column behind the last.
        starts: int64 (R,), each run's first pixel, counted along rows of W + 1 pixels.
        stops: int64 (R,), the pixel behind its last, counted so too: it may be the one that a row has too many.
        labels: int64 (R,), the part it belongs to.
    """

    shape: tuple[int, int]
    boxes: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    def sums(self, levels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the sum of ``levels`` (H, W) over each part, int64 (K,)."""
        if not len(self):
            return np.zeros(0, np.int64)
        height, width = self.shape
        padded = np.zeros((height, width + 1), np.uint8)
        padded[:, :width] = levels
        bounds = np.stack([self.starts, self.stops], axis=1).ravel()
        runs = np.add.reduceat(padded.ravel(), bounds, dtype=np.int64)[::2]
        return np.bincount(self.labels, runs, len(self)).astype(np.int64)

    def mask(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the pixels, (H, W), of the parts that are ``chosen``, (K,)."""
        return self.painted(chosen.astype(np.int8)) > 0

    def painted(self, numbers: NDArray[T]) -> NDArray[T]:
        """Return an image (H, W) of each part's number out of ``numbers`` (K,), signed, and 0 elsewhere."""
        height, width = self.shape
        change = np.zeros(height * (width + 1), numbers.dtype)
        change[self.starts] = numbers[self.labels]
        change[self.stops] = -numbers[self.labels]
        image: NDArray[T] = change.cumsum(dtype=numbers.dtype).reshape(height, width + 1)[:, :width]
        return image


def find_components(mask: NDArray[np.bool_]) -> Components:
    """Return the connected parts of ``mask`` (H, W), in the order of their first rows."""
    height, width = mask.shape
    pitch = width + 1
    padded = np.zeros(height * pitch + 1, np.int8)
    padded[1:].reshape(height, pitch)[:, :width] = mask
    change = np.diff(padded)
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    runs = np.arange(len(starts))
    # Runs of the next row touch a run if they stop at its start or later, and start at its stop or earlier.
    first = np.searchsorted(stops, starts + pitch)
    behind = np.searchsorted(starts, stops + pitch, "right")
    touching = np.maximum(behind - first, 0)
    upper = np.repeat(runs, touching)
    lower = np.arange(len(upper)) - np.repeat(touching.cumsum() - touching, touching) + np.repeat(first, touching)
    roots = _roots(len(runs), upper, lower)
    is_root = roots == runs
    labels, count = (is_root.cumsum() - 1)[roots], np.count_nonzero(is_root)
    rows, left, right = starts // pitch, starts % pitch, stops - starts // pitch * pitch
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = height + width, 0
    np.minimum.at(boxes[:, 0], labels, rows)
    np.minimum.at(boxes[:, 1], labels, left)
    np.maximum.at(boxes[:, 2], labels, rows + 1)
    np.maximum.at(boxes[:, 3], labels, right)
    return Components((height, width), boxes, starts, stops, labels)


def _roots(count: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of ``count`` nodes the lowest that edges, between ``one`` and ``other``, lead to.

    Each pass hooks the higher root of each edge to the lower one and then shortens all ways to their ends, as in
    Y. Shiloach, U. Vishkin, "An O(log n) parallel connectivity algorithm", Journal of Algorithms 3, 1982.
    """
    parents = np.arange(count)
    while True:
        low, high = parents[one], parents[other]
        low, high = np.minimum(low, high), np.maximum(low, high)
        apart = low != high
        if not apart.any():
            return parents
        np.minimum.at(parents, high[apart], low[apart])
        while ((further := parents[parents]) != parents).any():
            parents = further
