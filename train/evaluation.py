"""How often a model is right, where it is wrong and how sure it is of it, on any backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.confidence import softmax
from quillrt.runtime.errors import SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.predict import run_images
from quillrt.runtime.preprocessing import fit_images
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.session import Session
from quillrt.runtime.spec import ModelSpec

from .reliability import Reliability
from .wilson import wilson_interval

_TOP = (1, 3, 5)
_CONFUSED = 10  # pairs of classes, and
_WORST = 40  # images, that are worth a look


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
        truth: int64 (N,), the class of each image.
        predictions: int64 (N,), the class answered for each image.
        confidences: float64 (N,), the softmax probability of that answer.
        accuracy: share (0..1) of right answers.
        top_k: share (0..1) of images whose class is among the k likeliest, by k.
        per_class: scores of each class.
        macro: mean of the classes' scores.
        weighted: mean of the classes' scores by their number of images.
        confusion: int64 (K, K), images by true class (rows) and predicted class (columns).
        reliability: the confidences against how often they are right.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float64]
    accuracy: float
    top_k: Mapping[int, float]
    per_class: tuple[Scores, ...]
    macro: Scores
    weighted: Scores
    confusion: NDArray[np.int64]
    reliability: Reliability

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.predictions)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right, (N,)."""
        right: NDArray[np.bool_] = self.predictions == self.truth
        return right

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson_interval(int(self.right.sum()), self.n)

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each class, int64 (K,)."""
        support: NDArray[np.int64] = self.confusion.sum(axis=1)
        return support

    def confused(self, limit: int = _CONFUSED) -> list[tuple[int, int, int]]:
        """Return up to ``limit`` (true class, class answered, images), the most often confused first."""
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        rows, columns = np.unravel_index(order, wrong.shape)
        pairs = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
        return [(true, answered, count) for true, answered, count in pairs if count]

    def worst(self, limit: int = _WORST) -> NDArray[np.int64]:
        """Return the indices of up to ``limit`` wrong answers, those given with the most confidence first."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.confidences[wrong], kind="stable")[:limit]]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the single answers, of which only the worst, as JSON values."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "top_k": {str(k): share for k, share in self.top_k.items()},
            "expected_calibration_error": self.reliability.error,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "classes": [
                {"label": label, "n": n, **asdict(scores)}
                for label, n, scores in zip(self.labels, self.support.tolist(), self.per_class, strict=True)
            ],
            "confusion": self.confusion.tolist(),
            "confused": [
                {"true": self.labels[true], "predicted": self.labels[answered], "n": count}
                for true, answered, count in self.confused()
            ],
            "worst": [
                {
                    "index": i,
                    "true": self.labels[self.truth[i]],
                    "predicted": self.labels[self.predictions[i]],
                    "confidence": float(self.confidences[i]),
                }
                for i in self.worst().tolist()
            ],
            "reliability": self.reliability.to_json(),
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
    return compare(images, run_images(session, fit_images(images, spec.preprocessing), batch_size, track))


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


def compare(images: ImageSet, logits: NDArray[np.float32]) -> Evaluation:
    """Return what ``logits`` float32 (N, K) come to against the labels of ``images``."""
    from sklearn.metrics import (
        confusion_matrix,
        precision_recall_fscore_support,
    )

    truth, predictions, every = images.labels, logits.argmax(axis=1), list(range(len(images.classes)))
    confidences = softmax(logits).max(axis=1)

    def scores(average: str | None) -> tuple[Any, Any, Any]:
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predictions, labels=every, average=average, zero_division=0
        )
        return precision, recall, f1

    return Evaluation(
        labels=images.classes,
        truth=truth,
        predictions=predictions,
        confidences=confidences,
        accuracy=float((predictions == truth).mean()),
        top_k=_top_k(logits, truth),
        per_class=tuple(Scores(*map(float, each)) for each in zip(*scores(None), strict=True)),
        macro=Scores(*map(float, scores("macro"))),
        weighted=Scores(*map(float, scores("weighted"))),
        confusion=confusion_matrix(truth, predictions, labels=every).astype(np.int64),
        reliability=Reliability.of(confidences, predictions == truth),
    )


def _top_k(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[int, float]:
    """Return the shares for those k of ``_TOP`` that are below K; of equal logits the first counts more, as in argmax.

    scikit-learn's top_k_accuracy_score lets the last count more: its top-1 would not be the accuracy.
    """
    own = np.take_along_axis(logits, truth[:, None], axis=1)  # (N, 1)
    before = np.arange(logits.shape[1]) < truth[:, None]  # (N, K)
    rank = ((logits > own) | ((logits == own) & before)).sum(axis=1)  # (N,), 0 where the answer is right
    return {k: float((rank < k).mean()) for k in _TOP if k < logits.shape[1]}
