"""How a row's answers stand to those of the reference row, and to the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.precision import Precision
from quillrt.train.mcnemar import mcnemar
from quillrt.train.wilson import wilson_interval

from .measured import Accuracy, Agreement


def tolerance(*precisions: str | None) -> float:
    """Return the relative error that the coarsest of these precisions explains."""
    return max((TOLERANCES[Precision(each)] for each in precisions if each), default=0.0)


def compare(logits: NDArray[np.float32], reference: NDArray[np.float32], name: str, explained: float) -> Agreement:
    """Return how ``logits`` float32 (N, K) stand to those of the row ``name``, with the error that may be."""
    difference = np.abs(logits.astype(np.float64) - reference)
    spread = np.linalg.norm(reference - reference.mean(axis=0, dtype=np.float64))
    return Agreement(
        reference=name,
        images=len(logits),
        same_label=float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        max_difference=float(difference.max()),
        relative_error=float(np.linalg.norm(difference) / (spread or 1.0)),
        tolerance=explained,
    )


def accuracy_of(
    logits: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int64], numbers: NDArray[np.int64]
) -> Accuracy:
    """Return how many of ``labels`` (N,) the ``logits`` (N, K) of images ``numbers`` (N,) hit and the reference's."""
    right, before = logits.argmax(axis=1) == labels, reference.argmax(axis=1) == labels
    found = mcnemar(before, right)
    low, high = wilson_interval(int(right.sum()), len(labels))
    return Accuracy(
        images=len(labels),
        right=int(right.sum()),
        low=low,
        high=high,
        only_reference=found.only_first,
        only_this=found.only_second,
        p=found.p,
        wrong=tuple(numbers[~right].tolist()),
    )
