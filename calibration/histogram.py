"""The values of one tensor, counted batch by batch in memory that does not grow."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import CalibrationError

BINS = 4096  # on each side of zero: at least 2048 of them lie below the largest value, as many as TensorRT counts in
_AVERAGING = 0.01  # weight of a new batch in the moving average, as in torch.ao.quantization


class Histogram:
    """Counts in equal bins over ``-limit`` to ``limit``, and the extremes.

    ``limit`` is a power of two. Where a larger value comes, it doubles and neighbouring bins become one, so that each
    count stays in the bin it belongs to.

    Attributes:
        counts: int64 (2 x BINS,).
        limit: the outer edge of the last bin; 0 as long as all values are zero.
        low: smallest value.
        high: largest value.
        average_low: exponential moving average of the batches' smallest values.
        average_high: that of their largest.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * BINS, np.int64)
        self.limit = 0.0
        self.low, self.high = math.inf, -math.inf
        self.average_low = self.average_high = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of a batch, of any shape.

        Raises:
            CalibrationError: one of them is not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(low + high):
            raise CalibrationError(f"expected finite values, found {low} to {high}")
        weight = _AVERAGING if self.low <= self.high else 1.0
        self.average_low += weight * (low - self.average_low)
        self.average_high += weight * (high - self.average_high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach(max(-low, high))
        index = (values.reshape(-1) * (BINS / (self.limit or 1.0)) + BINS).astype(np.int32)
        self.counts += np.bincount(np.minimum(index, 2 * BINS - 1), minlength=2 * BINS)

    def _reach(self, largest: float) -> None:
        # Below 2 ** -100 the bins would be finer than float32 can count them.
        wanted = 2.0 ** max(math.frexp(largest)[1], -100) if largest else 0.0
        if self.limit == 0:
            self.limit = wanted  # what was counted so far are zeros, whose bin is the same at any limit
        while self.limit < wanted:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(pairs, BINS // 2)
            self.limit *= 2

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin, (2 x BINS,)."""
        return np.asarray((np.arange(2 * BINS) + 0.5 - BINS) * (self.limit / BINS), np.float64)

    def summary(self, bins: int) -> tuple[int, ...]:
        """Return counts in ``bins`` equal bins from ``low`` to ``high``."""
        inside = np.clip(self.centres, self.low, self.high)
        width = (self.high - self.low) / bins or 1.0
        index = np.minimum(((inside - self.low) / width).astype(np.int64), bins - 1)
        return tuple(int(n) for n in np.bincount(index, self.counts, minlength=bins))


_NUMBERS = ("limit", "low", "high", "average_low", "average_high")


def pack(histograms: Mapping[str, Histogram]) -> bytes:
    """Return histograms as the bytes of an ``.npz`` file, from which ``unpack`` makes them again."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        names=np.array(list(histograms)),
        counts=np.array([each.counts for each in histograms.values()]),
        numbers=np.array([[getattr(each, name) for name in _NUMBERS] for each in histograms.values()]),
    )
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Histogram]:
    """Return the histograms that ``pack`` made ``data`` of."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        names, counts, numbers = (arrays[name] for name in ("names", "counts", "numbers"))
    found = {}
    for name, own, values in zip(names.tolist(), counts, numbers.tolist(), strict=True):
        histogram = found[name] = Histogram()
        histogram.counts = own
        for attribute, value in zip(_NUMBERS, values, strict=True):
            setattr(histogram, attribute, value)
    return found
