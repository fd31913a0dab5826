"""A page of handwriting read: its characters found, recognized in one go, and put together to lines of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .background import CROP, flatten, stroke_window
from .character_parts import Box, find_parts
from .confidence import Confidence
from .ink_contrast import find_mix
from .photo import ink_alone
from .predict import Prediction, predict_prepared
from .prepare import PHOTO, Prepared
from .preprocessing import Preprocessing, fit_ink
from .ruled_lines import take_lines_off
from .session import Session
from .stroke_width import usual_strokes
from .text_lines import Mark, find_lines

LONGEST = 2400  # pixels of a page's longer side that are enough
_LOOKED_AT = 1600  # of the longer side, about, when it is read
# Widths over the height of the line, and a probability. Of 487 marks on made-up pages, 94 of them two MNIST digits that
# touch, the pairs have a median width of 1.31, and 99.9 % of single digits one up to 1.15.
_TOO_WIDE, _WIDE, _SURE = 1.25, 0.85, 0.9
UNREAD = "?"  # stands in the text for what is not read


@dataclass(frozen=True)
class Character:
    """A character of a page.

    Attributes:
        box: first row and column, and the row and column behind the last, in the image's own pixels, about.
        prediction: what the model says of it.
        after_space: there is a wide gap before it.
        touching: it is taken for several that touch, which are not read: wider than a character can be, or as wide as
            only the widest are and not recognized for sure.
    """

    box: Box
    prediction: Prediction
    after_space: bool
    touching: bool

    def doubt(self, least: float = 0.0, *, reject: bool = True) -> str:
        """Return why it is not read, nothing if it is.

        Args:
            least: below this probability it is ``unsure``.
            reject: what the model's threshold takes for no character is not read.
        """
        if self.touching:
            return "touching"
        if reject and not self.prediction.is_character:
            return "no character"
        return "unsure" if self.prediction.probability < least else ""


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        lines: from top to bottom, the characters of each from left to right.
    """

    lines: tuple[tuple[Character, ...], ...]

    @property
    def touching(self) -> int:
        """How many marks are several characters that touch."""
        return sum(character.touching for line in self.lines for character in line)

    def text(self, least: float = 0.0, *, reject: bool = True) -> str:
        """Return the text, a space for each wide gap and ``UNREAD`` for what is not read; options as ``doubt``."""
        return "\n".join(line_text(line, least, reject=reject) for line in self.lines)


def line_text(line: tuple[Character, ...], least: float = 0.0, *, reject: bool = True) -> str:
    """Return the text of one line; options as ``Character.doubt``."""
    return "".join(
        " " * each.after_space + (UNREAD if each.doubt(least, reject=reject) else each.prediction.label)
        for each in line
    )


def read_page(
    session: Session, image: Image.Image, confidence: Confidence, top_k: int = 1, batch_size: int = 64
) -> Reading:
    """Read an image of mode L or RGB with one line or several.

    Raises:
        AccuracyError: a logit is NaN or infinite.
    """
    factor = max(1, round(max(image.size) / _LOOKED_AT))
    lines, fitted = _find(image.reduce(factor), session.spec.preprocessing)
    prepared = ((str(number), Prepared(each, PHOTO, "")) for number, each in enumerate(fitted))
    found = iter(list(predict_prepared(session, prepared, top_k, batch_size, confidence)))

    def character(mark: Mark) -> Character:
        top, left, bottom, right = (factor * edge for edge in mark.box)
        box = (top, left, min(bottom, image.height), min(right, image.width))
        prediction = next(found)
        is_doubtful = prediction.probability < _SURE and mark.width > _WIDE
        return Character(box, prediction, mark.after_space, is_doubtful or mark.width > _TOO_WIDE)

    return Reading(tuple(tuple(character(mark) for mark in line) for line in lines))


def _find(image: Image.Image, recipe: Preprocessing) -> tuple[list[list[Mark]], list[NDArray[np.uint8]]]:
    """Return the marks of each line, and all of them fitted, uint8 (height, width) each."""
    grey = find_mix(image).grey(image)
    ink = take_lines_off(flatten(grey, stroke_window(grey), calm=min(grey.shape) > CROP), mend=True).ink
    found = find_parts(ink)
    if found is None:
        return [], []
    levels, components, amounts = found
    strong = np.flatnonzero(amounts > 0)
    lines = find_lines(components.boxes[strong], amounts[strong])
    marks = [mark for line in lines for mark in line]
    numbers = np.zeros(len(components), np.int32)
    for number, mark in enumerate(marks, 1):
        numbers[strong[mark.parts]] = number
    painted = components.painted(numbers)
    alone = (ink_alone(ink, painted, number, mark.box, levels.ground) for number, mark in enumerate(marks, 1))
    return lines, [fit_ink(usual_strokes(each), recipe) for each in alone]
