"""From the histogram of a tensor to the range that INT8 spreads over: what lies outside is clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import CalibrationError

from .histogram import BINS, Histogram

METHODS = ("minmax", "moving-average", "percentile", "entropy", "mse")
_LEVELS = 128  # of one sign: int8's magnitudes
_SMOOTHING = 1e-4  # share of a distribution that is spread evenly, as in Apache MXNet's calibration
_MOST_CLIPPED = 0.01
_STEPS = 255  # between the 256 values of a byte
_SHARES = np.linspace(0.01, 1, 100)  # of the whole range, tried for the least squared error


@dataclass(frozen=True)
class Method:
    """How ranges are found.

    Attributes:
        name: one of ``METHODS``.
        percentile: for ``percentile``: the share of values kept, in percent.

    Raises:
        CalibrationError: unknown name, or a percentile that is not above 50 and up to 100.
    """

    name: str = "minmax"
    percentile: float = 99.999

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise CalibrationError(f"expected a method out of {', '.join(METHODS)}, found {self.name!r}")
        if not 50 < self.percentile <= 100:
            raise CalibrationError(f"expected a percentile above 50 and up to 100, found {self.percentile}")

    def __str__(self) -> str:
        return f"{self.name} {self.percentile:.10g}" if self.name == "percentile" else self.name

    def range_of(self, histogram: Histogram) -> tuple[float, float]:
        """Return the lowest and the highest value that are not clipped."""
        if self.name == "minmax":
            return histogram.low, histogram.high
        if self.name == "moving-average":
            return histogram.average_low, histogram.average_high
        if self.name == "percentile":
            return _percentile(histogram, self.percentile)
        if self.name == "entropy":
            return _entropy(histogram)
        return _mse(histogram)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Clip the same share of values at either end, with values spread evenly over each bin."""
    below = np.concatenate([[0.0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    edges = np.linspace(-histogram.limit, histogram.limit, 2 * BINS + 1)
    clipped = (1 - percentile / 100) / 2
    low, high = np.interp([clipped, 1 - clipped], below, edges)
    return _within(histogram, low, high)


def _entropy(histogram: Histogram) -> tuple[float, float]:
    """Clip where the quantized magnitudes tell least from the real ones, by Kullback-Leibler divergence.

    S. Migacz, "8-bit Inference with TensorRT", GTC 2017. Zeros count as much as the bin beside them: they are exact at
    any scale, and after a ReLU they would decide alone (NVIDIA's pytorch-quantization does so, too). At most a
    hundredth of the values is clipped: where the last bin holds a value that most pixels have, as a background, the
    published divergence does not see what is clipped into it.
    """
    magnitudes = histogram.counts[BINS:] + histogram.counts[:BINS][::-1]
    magnitudes[0] = magnitudes[1]
    used = int(np.flatnonzero(magnitudes).max(initial=0)) + 1
    if used <= _LEVELS:
        return histogram.low, histogram.high
    beyond = np.cumsum(magnitudes[::-1])[::-1]
    # Bins to keep, for `beyond` falls; all of them where the last alone holds more.
    allowed = np.flatnonzero(beyond <= _MOST_CLIPPED * histogram.counts.sum())
    least = int(allowed[0]) if len(allowed) else used
    candidates = range(max(_LEVELS, least), used + 1)
    divergences = [_divergence(magnitudes[:bins], beyond[bins] if bins < BINS else 0) for bins in candidates]
    threshold = candidates[int(np.argmin(divergences))] * histogram.limit / BINS
    return _within(histogram, -threshold, threshold)


def _divergence(kept: NDArray[np.int64], clipped: int) -> float:
    """Return how far ``kept`` in 128 levels is from ``kept`` with the ``clipped`` values in its last bin."""
    starts = np.arange(_LEVELS) * len(kept) // _LEVELS
    real = kept.astype(np.float64)
    real[-1] += clipped
    filled = real > 0
    places = np.add.reduceat(filled, starts, dtype=np.int64)
    levels = np.add.reduceat(kept, starts) / np.maximum(places, 1)
    coarse = np.repeat(levels, np.diff(starts, append=len(kept)))[filled]
    real = real[filled] / real.sum()
    # A value that no level has would make the divergence infinite, however rare it is.
    coarse = (1 - _SMOOTHING) * coarse / max(coarse.sum(), 1) + _SMOOTHING / len(coarse)
    return float((real * np.log(real / coarse)).sum())


def _mse(histogram: Histogram) -> tuple[float, float]:
    """Shrink the range to where the mean squared error of 8 bits is least: of rounding inside, of clipping outside."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    used = histogram.counts > 0
    values, counts = histogram.centres[used], histogram.counts[used]

    def error(share: float) -> float:
        step = share * (high - low) / _STEPS or 1.0
        levels = np.clip(np.rint(values / step), np.rint(share * low / step), np.rint(share * high / step))
        return float((counts * (values - levels * step) ** 2).sum())

    best = _SHARES[int(np.argmin([error(share) for share in _SHARES]))]
    return _within(histogram, best * low, best * high)


def _within(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    found = np.clip([low, high], histogram.low, histogram.high)
    return float(found[0]), float(found[1])
