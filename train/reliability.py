"""Whether a model is right as often as it is sure: confidences against accuracies, bin by bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # as Guo et al. take


@dataclass(frozen=True)
class Reliability:
    """Answers sorted into bins of equal width by their confidence, the softmax probability of the class answered.

    Bin b of B holds the confidences above b / B, up to (b + 1) / B.

    Attributes:
        counts: int64 (B,), answers in each bin.
        confidence: float64 (B,), their mean confidence; 0 in an empty bin.
        accuracy: float64 (B,), the share of them that is right; 0 in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @classmethod
    def of(cls, confidences: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
        """Sort the answers of ``confidences`` float64 (N,), each 0..1, and ``right`` bool (N,) into ``bins``."""
        edges = np.linspace(0, 1, bins + 1)
        bin_of = np.searchsorted(edges, confidences, side="left").clip(min=1) - 1  # (N,); 0 lies in the first
        counts = np.bincount(bin_of, minlength=bins)
        full = counts.clip(min=1)
        return cls(
            counts=counts.astype(np.int64),
            confidence=np.bincount(bin_of, confidences, bins) / full,
            accuracy=np.bincount(bin_of, right.astype(np.float64), bins) / full,
        )

    @property
    def error(self) -> float:
        """The expected calibration error, 0..1: the mean of |accuracy - confidence| over the bins, by their counts.

        C. Guo et al., "On calibration of modern neural networks", ICML 2017, arXiv 1706.04599, equation 3.
        """
        return float((self.counts * abs(self.accuracy - self.confidence)).sum() / max(1, self.counts.sum()))

    def to_json(self) -> list[dict[str, Any]]:
        """Return the bins as JSON values, lowest confidence first."""
        return [
            {"n": n, "confidence": confidence, "accuracy": accuracy}
            for n, confidence, accuracy in zip(
                self.counts.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True
            )
        ]
