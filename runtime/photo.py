"""A photograph of handwriting becomes the ink of its one character: as from a scanner, light on black."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .background import CROP, flatten, stroke_window
from .character_parts import Box, Parts, around, find_character
from .ink_contrast import InkMix, find_mix
from .ruled_lines import take_lines_off
from .windows import highest, odd

LONGEST = 1600  # pixels of a photograph's longer side that are enough for a character on a sheet
_LOOKED_AT = 768  # of the longer side, about, when the character is sought
_CROP = 128  # pixels of the longer side up to which an image is looked at once
_CHARACTER = 72  # pixels of the character's longer side, at least, when it is looked at closely, if the image has them
_MARGIN = 0.6  # of that side, around it
_BROADEST, _NARROWEST = 0.6, 0.4  # of that side: the window that strokes are narrower than
_CALM = 48  # pixels of the character's longer side from which on noise is smoothed
_FULL = 0.65  # quantile of the strokes' ink that becomes 255
_PAPER = 0.6  # of the level up to which it is paper: what becomes 0, so that strokes keep their grey edges
_EDGE = 24  # the character's longer side over what a stroke's grey edge reaches
_EVEN = 0.5  # of the contrast of ink and paper: what the paper of a cropped character's image may vary by
_INK = 0.25  # of the darkest ink's contrast, from which on it is ink
_SPECKS = 0.02  # of all ink, on either side of what holds the rest
_RIM = 0.05  # of the shorter side, at the image's edges, where its paper is looked at
_FILLED = 0.4  # of the image's longer side, that a cropped character has at least


@dataclass(frozen=True)
class View:
    """An image, or a part of it, and what was made of it step by step.

    Attributes:
        grey: dark ink on light paper, uint8 (H, W).
        flat: ink alone, light on black, uint8 (H, W).
        unruled: the same without lines.
        lines: theirs, 0 where there is none.
        parts: of the character; ``None`` where there is none.
    """

    grey: NDArray[np.uint8]
    flat: NDArray[np.uint8]
    unruled: NDArray[np.uint8]
    lines: NDArray[np.uint8]
    parts: Parts | None

    @property
    def unevenness(self) -> float:
        """How much the paper's grey varies (from 5 to 95 % of it), over how much darker the strokes are.

        The paper is that at the image's edges, as far as there are no strokes: what is around blurred ones is no paper.
        """
        if self.parts is None:
            return 0.0
        strokes = self.parts.components.mask(self.parts.chosen)
        rim = max(1, round(_RIM * min(self.grey.shape)))
        at_edge = np.ones(self.grey.shape, bool)
        at_edge[rim:-rim, rim:-rim] = False
        paper = self.grey[at_edge & (self.flat <= self.parts.levels.ground)]
        if not paper.size:
            return np.inf
        dark, middle, light = np.quantile(paper, [0.05, 0.5, 0.95])
        return float((light - dark) / max(middle - np.median(self.grey[strokes]), 1))

    def character(self) -> NDArray[np.uint8]:
        """Return the character's ink alone, its strokes' core 255, uint8 (h, w); one black pixel if there is none."""
        if self.parts is None:
            return np.zeros((1, 1), np.uint8)
        strokes = self.parts.components.mask(self.parts.chosen)
        return ink_alone(self.unruled, strokes, True, self.parts.box, self.parts.levels.ground)


def ink_alone(
    ink: NDArray[np.uint8], owners: NDArray[np.int32] | NDArray[np.bool_], owner: int, box: Box, ground: int
) -> NDArray[np.uint8]:
    """Return the ink of one owner's strokes and of their grey edges, the strokes' core 255, uint8 (h, w).

    Args:
        ink: of the whole image, light on black, uint8 (H, W).
        owners: whose stroke each pixel is of, (H, W).
        owner: the one.
        box: of its strokes.
        ground: up to this ink it is paper.
    """
    top, left, bottom, right = box
    edge = max(1, round(max(bottom - top, right - left) / _EDGE))
    rows, columns = slice(max(0, top - edge), bottom + edge), slice(max(0, left - edge), right + edge)
    ink, strokes = ink[rows, columns], owners[rows, columns] == owner
    paper = _PAPER * ground
    full = max(float(np.quantile(ink[strokes], _FULL)), paper + 8)
    stretched = np.clip((ink - np.float32(paper)) * np.float32(255 / (full - paper)), 0, 255).astype(np.uint8)
    near = highest(strokes.view(np.uint8), 2 * edge + 1, 2 * edge + 1)
    alone: NDArray[np.uint8] = stretched * near
    return alone


@dataclass(frozen=True)
class Photo:
    """What was made of a photograph.

    Attributes:
        mix: of its channels.
        box: of the character in the image's own pixels, about; ``None`` where there is none.
        whole: the whole of it, smaller if it is large.
        close: the character's surroundings, looked at closely; ``whole`` for a crop.
    """

    mix: InkMix
    box: Box | None
    whole: View
    close: View

    @property
    def trouble(self) -> str:
        """What keeps the image from being a cropped character on even paper, nothing if it is one."""
        view = self.whole
        if view.parts is None:
            return "nothing found"
        if view.lines.any():
            return "lines"
        if view.unevenness > _EVEN:
            return "uneven paper"
        top, left, bottom, right = around(view.parts.components.boxes)
        side = max(bottom - top, right - left)
        if max(view.grey.shape) <= _CROP:
            side = max(side, _ink_side(view.grey))
        if side < _FILLED * max(view.grey.shape):
            return "small on its paper"
        if max(view.grey.shape) > _CROP and (view.parts.strong & ~view.parts.chosen).any():
            return "specks"
        return ""


def _ink_side(grey: NDArray[np.uint8]) -> int:
    """Return the longer side of what holds nearly all ink on even paper, uint8 (H, W), of strokes of any breadth."""
    ink = np.median(grey) - grey.astype(np.float32)
    ink[ink < _INK * ink.max()] = 0
    sides = []
    for axis in (0, 1):
        share = np.cumsum(ink.sum(axis=axis)) / max(float(ink.sum()), 1)
        first, last = np.searchsorted(share, [_SPECKS, 1 - _SPECKS])
        sides.append(int(last - first) + 1)
    return max(sides)


def look(image: Image.Image) -> Photo:
    """Look for the one character on an image of mode L or RGB: at the whole first, then closely at where it is."""
    factor = max(1, round(max(image.size) / _LOOKED_AT))
    small = image.reduce(factor)
    mix = find_mix(small)
    grey = mix.grey(small)
    is_crop = max(image.size) <= _CROP
    calm = min(grey.shape) > CROP
    whole = _view(grey, stroke_window(grey), is_crop=is_crop, calm=calm, mend=is_crop)
    if whole.parts is None:
        return Photo(mix, None, whole, whole)
    top, left, bottom, right = (factor * edge for edge in whole.parts.box)
    box = top, left, min(bottom, image.height), min(right, image.width)
    return Photo(mix, box, whole, whole if is_crop else _look_closely(image, mix, box))


def _look_closely(image: Image.Image, mix: InkMix, box: Box) -> View:
    """Return the view of the character in ``box`` and of what is around it."""
    top, left, bottom, right = box
    side = max(bottom - top, right - left)
    margin = round(_MARGIN * side)
    above, before = max(0, top - margin), max(0, left - margin)
    around_it = image.crop((before, above, min(image.width, right + margin), min(image.height, bottom + margin)))
    shrink = max(1, side // _CHARACTER)
    grey = mix.grey(around_it.reduce(shrink))
    window = odd(float(np.clip(stroke_window(grey), _NARROWEST * side / shrink, _BROADEST * side / shrink)))
    expected = (
        (top - above) // shrink,
        (left - before) // shrink,
        (bottom - above) // shrink,
        (right - before) // shrink,
    )
    return _view(grey, window, is_crop=False, calm=side / shrink > _CALM, mend=True, expected=expected)


def _view(
    grey: NDArray[np.uint8], window: int, *, is_crop: bool, calm: bool, mend: bool, expected: Box | None = None
) -> View:
    flat = flatten(grey, window, calm=calm)
    ruling = take_lines_off(flat, mend=mend)
    return View(grey, flat, ruling.ink, ruling.lines, find_character(ruling.ink, is_crop=is_crop, expected=expected))
