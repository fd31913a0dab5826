"""What stands in a file of rows: each image's prediction in its JSON form, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import ConfigError
from .predict import Prediction
from .prepare import AUTO

Row: TypeAlias = dict[str, Any]  # plain JSON values by COLUMNS

COLUMNS = (
    *("image", "answer", "doubt", "label", "probability", "is_character", "unsure", "preprocessing", "because"),
    *("top", "error"),
)
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Choices:
    """What makes an answer of a prediction.

    Attributes:
        top_k: how many labels, the likeliest first.
        min_confidence: below this probability the answer is in doubt.
        reject: what the bundle's threshold takes for no character is in doubt, too.
        preprocessing: how images are prepared, as for ``prepare.prepare``.
    """

    top_k: int = 1
    min_confidence: float = 0.0
    reject: bool = True
    preprocessing: str = AUTO

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:  # NaN too
            raise ConfigError(f"expected a least confidence of 0 to 1, found {self.min_confidence}")


def printable(name: str) -> str:
    """Return a file's name as all formats can hold it, bytes that are no UTF-8 as escapes with a backslash."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def answered(prediction: Prediction, choices: Choices) -> Row:
    """Return the row of an image that was read: as `run --json` has it, and no ``error``."""
    row = prediction.to_json(choices.min_confidence, reject=choices.reject)
    return {**row, "image": printable(prediction.name), "error": None}


def unreadable(image: str, error: str) -> Row:
    """Return the row of an image that could not be read; the ``doubt`` tells it from the others."""
    empty = dict.fromkeys(COLUMNS)
    said = printable(" ".join(error.split()))
    return {**empty, "image": printable(image), "doubt": UNREADABLE, "top": [], "error": said}
