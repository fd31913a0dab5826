"""The one character of an image, found among specks, what is left of lines, and shadows at the edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .components import Components, find_components
from .ink_levels import InkLevels, find_levels

Box = tuple[int, int, int, int]  # first row and column, and the row and column behind the last

_AT_EDGE = 0.05  # what the ink of a part counts that reaches out of the image: a shadow, a finger, the table
_AT_EDGE_OF_CROP = 0.3  # the same on a crop, whose character may touch the edge
_LONG = 12  # times as long as broad: what is left of a line
_OF_LONG = 0.3  # what its ink counts
_ELSEWHERE = 0.05  # what ink outside of the expected box counts
_GAP = 0.25  # of the character's longer side, up to which another part belongs to it
_SPECK = 0.02  # of the character's ink, below which a part is a speck
_ROUNDS = 4  # in which the character takes in parts near to it


@dataclass(frozen=True)
class Parts:
    """The parts of the ink of an image, and which of them are the character.

    Attributes:
        components: all of them.
        strong: bool (K,), those with strong ink; the others may be paper.
        chosen: bool (K,), those of the character.
        levels: of the ink.
    """

    components: Components
    strong: NDArray[np.bool_]
    chosen: NDArray[np.bool_]
    levels: InkLevels

    @property
    def box(self) -> Box:
        """That of the character."""
        return around(self.components.boxes[self.chosen])


def around(boxes: NDArray[np.int64]) -> Box:
    """Return the box around boxes (K, 4)."""
    top, left = boxes[:, :2].min(axis=0).tolist()
    bottom, right = boxes[:, 2:].max(axis=0).tolist()
    return top, left, bottom, right


def find_character(ink: NDArray[np.uint8], *, is_crop: bool, expected: Box | None = None) -> Parts | None:
    """Return the parts of the character on ``ink``, light on black, uint8 (H, W), ``None`` where there is none.

    Args:
        ink: of a photograph without paper and lines.
        is_crop: the character may fill the image.
        expected: where it is.
    """
    found = find_parts(ink)
    if found is None:
        return None
    levels, components, amounts = found
    weights = amounts * _likelihoods(components, is_crop=is_crop, expected=expected)
    return Parts(components, amounts > 0, _joined(components.boxes, amounts, int(weights.argmax())), levels)


def find_parts(ink: NDArray[np.uint8]) -> tuple[InkLevels, Components, NDArray[np.int64]] | None:
    """Return the levels of ``ink``, uint8 (H, W), its parts and how much strong ink each has, ``None`` without any."""
    levels = find_levels(ink)
    if levels is None:
        return None
    components = find_components(ink > levels.weak)
    return levels, components, components.sums(np.where(ink > levels.strong, ink, 0))


def _likelihoods(components: Components, *, is_crop: bool, expected: Box | None) -> NDArray[np.float64]:
    """Return for each part, (K,), what its ink counts when the character's main part is sought."""
    boxes = components.boxes
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    height, width = components.shape
    edges = (boxes[:, :2] == 0).sum(axis=1) + (boxes[:, 2:] == (height, width)).sum(axis=1)
    once = _AT_EDGE_OF_CROP if is_crop else _AT_EDGE
    likelihoods = np.select([edges == 0, edges == 1], [1.0, once], once * _AT_EDGE_OF_CROP)
    likelihoods[np.maximum(heights, widths) > _LONG * np.minimum(heights, widths)] *= _OF_LONG
    if expected is not None:
        inside = np.minimum(boxes[:, 2:], expected[2:]) - np.maximum(boxes[:, :2], expected[:2])
        likelihoods *= _ELSEWHERE + np.maximum(inside, 0).prod(axis=1) / (heights * widths)
    return likelihoods


def _joined(boxes: NDArray[np.int64], amounts: NDArray[np.int64], main: int) -> NDArray[np.bool_]:
    """Return which parts, (K,), are the main one's character: those near enough to it that are no specks."""
    chosen = np.zeros(len(boxes), bool)
    chosen[main] = True
    for _ in range(_ROUNDS):
        box = np.array(around(boxes[chosen]))
        apart = np.maximum(np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]), 0)
        near = np.hypot(apart[:, 0], apart[:, 1]) < _GAP * (box[2:] - box[:2]).max()
        joining = near & (amounts > _SPECK * amounts[chosen].sum()) & ~chosen
        if not joining.any():
            break
        chosen |= joining
    return chosen
