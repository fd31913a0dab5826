"""Images in, labels and probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .preprocessing import fit_image, normalize
from .progress import Track, no_progress
from .session import Session


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: labels with their softmax probabilities, the likeliest first."""

    name: str
    top: tuple[tuple[str, float], ...]


def predict(
    session: Session, images: Iterable[tuple[str, NDArray[np.uint8]]], top_k: int = 1, batch_size: int = 64
) -> Iterator[Prediction]:
    """Yield a prediction for each (name, grey image uint8 (H, W)), in order, running ``batch_size`` at a time."""
    spec = session.spec
    stream = iter(images)
    while chunk := list(islice(stream, batch_size)):
        fitted = np.stack([fit_image(image, spec.preprocessing) for _, image in chunk])  # (n, height, width)
        probabilities = softmax(session.run(normalize(fitted, spec.preprocessing, spec.channels)))
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for (name, _), row, best in zip(chunk, probabilities, order, strict=True):
            yield Prediction(name, tuple((spec.labels[k], float(row[k])) for k in best))


def run_images(
    session: Session, images: NDArray[np.uint8], batch_size: int = 256, track: Track = no_progress
) -> NDArray[np.float32]:
    """Return the logits, float32 (N, K), of fitted images uint8 (N, height, width), ``batch_size`` at a time."""
    spec = session.spec
    starts = range(0, len(images), batch_size)
    batches = [
        session.run(normalize(images[start : start + batch_size], spec.preprocessing, spec.channels))
        for start in track(starts, "running", len(starts))
    ]
    return np.concatenate(batches)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return softmax over the last axis, float64 (N, K); the row's maximum goes first, so that nothing overflows."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result
