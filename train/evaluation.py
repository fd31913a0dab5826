"""How often a model is right, and where it is wrong, on any backend."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.predict import run_images
from quillrt.runtime.preprocessing import fit_images
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.session import Session
from quillrt.runtime.spec import ModelSpec


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each 0..1, as scikit-learn defines them; 0 where nothing was predicted or there."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Evaluation:
    """What a model's answers on a labelled set came to.

    Attributes:
        labels: names of the K classes.
        accuracy: share (0..1) of right answers.
        per_class: scores of each class.
        macro: mean of the classes' scores.
        weighted: mean of the classes' scores by their number of images.
        confusion: int64 (K, K), images by true class (rows) and predicted class (columns).
        predictions: int64 (N,), the class predicted for each image.
    """

    labels: tuple[str, ...]
    accuracy: float
    per_class: tuple[Scores, ...]
    macro: Scores
    weighted: Scores
    confusion: NDArray[np.int64]
    predictions: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.predictions)

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each class, int64 (K,)."""
        support: NDArray[np.int64] = self.confusion.sum(axis=1)
        return support

    def to_json(self) -> dict[str, Any]:
        """Return everything but the single predictions as JSON values."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "classes": [
                {"label": label, "n": n, **asdict(scores)}
                for label, n, scores in zip(self.labels, self.support.tolist(), self.per_class, strict=True)
            ],
            "confusion": self.confusion.tolist(),
        }


def evaluate(session: Session, images: ImageSet, batch_size: int = 256, track: Track = no_progress) -> Evaluation:
    """Run ``images`` through ``session`` and compare its answers with their labels.

    Raises:
        SpecError: the session's labels are not the classes of ``images``, or there are no images.
    """
    spec = session.spec
    check_labels(spec, images)
    if not len(images):
        raise SpecError("expected images to evaluate, found none")
    logits = run_images(session, fit_images(images, spec.preprocessing), batch_size, track)
    return compare(images, logits.argmax(axis=1))


def check_labels(spec: ModelSpec, images: ImageSet) -> None:
    """Raise unless the data set has the model's classes.

    Raises:
        SpecError: their names or order differ.
    """
    if images.classes != spec.labels:
        raise SpecError(
            f"expected a data set with the model's {len(spec.labels)} classes ({', '.join(spec.labels)}), "
            f"found {len(images.classes)} ({', '.join(images.classes)}); choose another --dataset"
        )


def compare(images: ImageSet, predictions: NDArray[np.int64]) -> Evaluation:
    """Return the scores of ``predictions`` int64 (N,) against the labels of ``images``."""
    from sklearn.metrics import (
        confusion_matrix,
        precision_recall_fscore_support,
    )

    truth, every = images.labels, list(range(len(images.classes)))

    def scores(average: str | None) -> tuple[Any, Any, Any]:
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predictions, labels=every, average=average, zero_division=0
        )
        return precision, recall, f1

    return Evaluation(
        labels=images.classes,
        accuracy=float((predictions == truth).mean()),
        per_class=tuple(Scores(*map(float, each)) for each in zip(*scores(None), strict=True)),
        macro=Scores(*map(float, scores("macro"))),
        weighted=Scores(*map(float, scores("weighted"))),
        confusion=confusion_matrix(truth, predictions, labels=every).astype(np.int64),
        predictions=predictions,
    )
