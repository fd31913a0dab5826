"""Images in, labels and probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .confidence import AS_IT_IS, Confidence
from .errors import AccuracyError
from .preprocessing import fit_image, normalize
from .progress import Track, no_progress
from .session import Session


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        name: the image's.
        top: labels with their probabilities, the likeliest first.
        is_character: the image is taken for a character.
    """

    name: str
    top: tuple[tuple[str, float], ...]
    is_character: bool = True

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """That of the likeliest label."""
        return self.top[0][1]

    def doubt(self, least: float = 0.0, *, reject: bool = True) -> str:
        """Return why there is no answer, nothing if there is one.

        Args:
            least: below this probability the answer is ``unsure``.
            reject: what is not taken for a character is ``no character``.
        """
        if reject and not self.is_character:
            return "no character"
        return "unsure" if self.probability < least else ""

    def to_json(self, least: float = 0.0, *, reject: bool = True) -> dict[str, Any]:
        """Return it as plain JSON values, the form that `quillrt run --json` and the server share; as ``doubt``."""
        doubt = self.doubt(least, reject=reject)
        return {
            "image": self.name,
            "answer": None if doubt else self.label,
            "doubt": doubt,
            "label": self.label,
            "probability": self.probability,
            "is_character": self.is_character,
            "unsure": self.probability < least,
            "top": [{"label": label, "probability": share} for label, share in self.top],
        }


def predict(
    session: Session,
    images: Iterable[tuple[str, NDArray[np.uint8]]],
    top_k: int = 1,
    batch_size: int = 64,
    confidence: Confidence = AS_IT_IS,
) -> Iterator[Prediction]:
    """Yield a prediction for each (name, grey image uint8 (H, W)), in order, running ``batch_size`` at a time.

    ``confidence`` is the bundle's.

    Raises:
        AccuracyError: a logit is NaN or infinite.
    """
    recipe = session.spec.preprocessing
    stream = iter(images)
    while chunk := list(islice(stream, batch_size)):
        fitted = np.stack([fit_image(image, recipe) for _, image in chunk])  # (n, height, width)
        yield from predict_fitted(session, [name for name, _ in chunk], fitted, top_k, confidence)


def predict_fitted(
    session: Session, names: Sequence[str], fitted: NDArray[np.uint8], top_k: int, confidence: Confidence
) -> Iterator[Prediction]:
    """Yield a prediction for each of ``fitted``, uint8 (n, height, width), all run at once; errors as ``predict``."""
    logits = _run(session, fitted)
    probabilities, accepted = confidence.probabilities(logits), confidence.are_characters(logits, fitted)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    labels = session.spec.labels
    for name, row, best, is_one in zip(names, probabilities, order, accepted, strict=True):
        yield Prediction(name, tuple((labels[k], float(row[k])) for k in best), bool(is_one))


def run_images(
    session: Session, images: NDArray[np.uint8], batch_size: int = 256, track: Track = no_progress
) -> NDArray[np.float32]:
    """Return the logits, float32 (N, K), of fitted images uint8 (N, height, width), ``batch_size`` at a time.

    Raises:
        AccuracyError: a logit is NaN or infinite.
    """
    starts = range(0, len(images), batch_size)
    return np.concatenate(
        [_run(session, images[start : start + batch_size]) for start in track(starts, "running", len(starts))]
    )


def _run(session: Session, fitted: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (n, K) of fitted images (n, height, width)."""
    logits = session.run(normalize(fitted, session.spec.preprocessing, session.spec.channels))
    if not np.isfinite(logits).all():
        raise AccuracyError(
            "expected finite logits, found NaN or infinite ones: the model overflows in this precision or is damaged; "
            "choose --precision fp32"
        )
    return logits
