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
from .prepare import NOT_CHOSEN, Prepared, Way
from .preprocessing import fit_each, normalize
from .progress import Track, no_progress
from .session import Session


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        name: the image's.
        top: labels with their probabilities, the likeliest first.
        is_character: the image is taken for a character.
        preprocessing: the way in which it was prepared, ``as-is`` or ``photo``.
        because: why in that one.
    """

    name: str
    top: tuple[tuple[str, float], ...]
    is_character: bool = True
    preprocessing: str = NOT_CHOSEN.preprocessing
    because: str = NOT_CHOSEN.because

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
            "preprocessing": self.preprocessing,
            "because": self.because,
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
    stream = iter(images)
    while chunk := list(islice(stream, batch_size)):
        fitted = fit_each((image for _, image in chunk), session.spec.preprocessing)
        yield from predict_fitted(session, [name for name, _ in chunk], fitted, top_k, confidence)


def predict_prepared(
    session: Session,
    images: Iterable[tuple[str, Prepared]],
    top_k: int = 1,
    batch_size: int = 64,
    confidence: Confidence = AS_IT_IS,
) -> Iterator[Prediction]:
    """Yield a prediction for each (name, prepared image), as ``predict`` does.

    Raises:
        AccuracyError: a logit is NaN or infinite.
    """
    stream = iter(images)
    while chunk := list(islice(stream, batch_size)):
        fitted = np.stack([image.fitted for _, image in chunk])  # (n, height, width)
        ways = [image.way for _, image in chunk]
        yield from predict_fitted(session, [name for name, _ in chunk], fitted, top_k, confidence, ways)


def predict_fitted(
    session: Session,
    names: Sequence[str],
    fitted: NDArray[np.uint8],
    top_k: int,
    confidence: Confidence,
    ways: Sequence[Way] | None = None,
) -> list[Prediction]:
    """Return a prediction for each of ``fitted``, uint8 (n, height, width), all run at once; errors as ``predict``."""
    logits = logits_of(session, fitted)
    return predictions(names, logits, fitted, session.spec.labels, top_k, confidence, ways)


def predictions(
    names: Sequence[str],
    logits: NDArray[np.float32],
    fitted: NDArray[np.uint8],
    labels: Sequence[str],
    top_k: int,
    confidence: Confidence,
    ways: Sequence[Way] | None = None,
) -> list[Prediction]:
    """Return what logits (n, K) of the images ``fitted``, uint8 (n, height, width), say.

    ``ways`` are those in which the images were prepared, ``NOT_CHOSEN`` if nothing is given.
    """
    shares, accepted = confidence.probabilities(logits), confidence.are_characters(logits, fitted)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
    best = np.take_along_axis(shares, order, axis=1)
    given = ways or [NOT_CHOSEN] * len(names)
    return [
        Prediction(name, tuple((labels[k], share) for k, share in zip(ks, row, strict=True)), is_one, *way)
        for name, ks, row, is_one, way in zip(
            names, order.tolist(), best.tolist(), accepted.tolist(), given, strict=True
        )
    ]


def run_images(
    session: Session, images: NDArray[np.uint8], batch_size: int = 256, track: Track = no_progress
) -> NDArray[np.float32]:
    """Return the logits, float32 (N, K), of fitted images uint8 (N, height, width), ``batch_size`` at a time.

    Raises:
        AccuracyError: a logit is NaN or infinite.
    """
    starts = range(0, len(images), batch_size)
    return np.concatenate(
        [logits_of(session, images[start : start + batch_size]) for start in track(starts, "running", len(starts))]
    )


def logits_of(session: Session, fitted: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (n, K) of one batch of fitted images, uint8 (n, height, width).

    Raises:
        AccuracyError: a logit is NaN or infinite.
    """
    logits = session.run(normalize(fitted, session.spec.preprocessing, session.spec.channels))
    if not np.isfinite(logits).all():
        raise AccuracyError(
            "expected finite logits, found NaN or infinite ones: the model overflows in this precision or is damaged; "
            "choose --precision fp32"
        )
    return logits
