"""Parts of ink put together to characters, and characters to lines, by where they lie.

All lengths are in units of the height of the page's characters, so that they hold for any size of writing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .character_parts import Box, around

_ANGLES = np.deg2rad(np.arange(-8, 8.01, 0.25))  # at which lines may run
_SMALL = 0.5  # height of a part that is no character by itself: a dot, a bar
_SPECK = 0.2  # longer side of a part that is a speck if it belongs to no character
_LEAST_INK = 0.1  # of the median character's: less is a speck, too
_TALLEST, _WIDEST = 2.5, 6.0  # sides of a part that may be writing; a wider one is a line or a shadow
_FLAT = 10  # times as wide as high: what is left of a line
_ABOVE = 0.6  # gap between a small part and the character it stands above or below
_BESIDE = 0.12  # gap between a small part and the character it stands beside
_TOGETHER = 1.6  # height of a character with its dot
_BROKEN = 1.2  # height of a character whose halves, one above the other, do not touch
_OVER = 0.5  # share of the narrower part's width that lies above or below the other
_OFF = 0.6  # how far a character's middle may be from that of its line's last ones
_REMEMBERED = 3  # of these
_SPACE = 0.75  # gap between characters that is a space: this, or
_WIDER = 1.8  # times the page's usual gap, the lower quartile, if that is more
_LEAST_HEIGHT = 8  # pixels of the page's characters: what is smaller is noise


@dataclass(frozen=True)
class Mark:
    """What takes a character's place in a line.

    Attributes:
        parts: int64 (n,), of which parts it consists.
        box: first row and column, and the row and column behind the last.
        after_space: there is a wide gap before it.
        width: its own, over the height of its line.
    """

    parts: NDArray[np.int64]
    box: Box
    after_space: bool
    width: float


def find_lines(boxes: NDArray[np.int64], amounts: NDArray[np.int64]) -> list[list[Mark]]:
    """Return the lines from top to bottom, each its marks from left to right.

    Args:
        boxes: of the parts, int64 (K, 4): first row and column, and the row and column behind the last.
        amounts: their ink, int64 (K,).
    """
    if not len(boxes):
        return []
    height = _height(boxes, amounts)
    if height < _LEAST_HEIGHT:
        return []
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    is_writing = (heights <= _TALLEST * height) & (widths <= _WIDEST * height) & (widths < _FLAT * heights)
    groups = _characters(boxes, np.flatnonzero(is_writing), height)
    ink = np.array([amounts[group].sum() for group in groups])
    whole = np.array([around(boxes[group]) for group in groups]).reshape(-1, 4)
    longer = np.maximum(whole[:, 2] - whole[:, 0], whole[:, 3] - whole[:, 1])
    usual = np.median(ink[longer > _SMALL * height]) if (longer > _SMALL * height).any() else 0
    kept = np.flatnonzero((longer > _SPECK * height) & (ink > _LEAST_INK * usual))
    lines = [[groups[k] for k in kept[line]] for line in _rows(whole[kept], height)]
    placed = [np.array([around(boxes[group]) for group in line]) for line in lines]
    gaps = [whole[1:, 1] - np.maximum.accumulate(whole[:-1, 3]) for whole in placed]
    every = np.concatenate([np.zeros(0, np.int64), *gaps])
    usual = float(np.quantile(every, 0.25, method="lower")) if every.size else 0.0
    space = max(_SPACE * height, _WIDER * usual)
    return [
        _marks(line, whole, [False, *(gap > space).tolist()], height)
        for line, whole, gap in zip(lines, placed, gaps, strict=True)
    ]


def _height(boxes: NDArray[np.int64], amounts: NDArray[np.int64]) -> float:
    """Return the height of the page's characters: that which parts above and below it hold the same ink of."""
    heights = boxes[:, 2] - boxes[:, 0]
    order = heights.argsort(kind="stable")
    up_to = amounts[order].cumsum()
    return float(heights[order][np.searchsorted(up_to, up_to[-1] / 2)])


def _characters(boxes: NDArray[np.int64], parts: NDArray[np.int64], height: float) -> list[NDArray[np.int64]]:
    """Return which of ``parts`` make a character each, the tallest part's first."""
    order = parts[np.argsort(boxes[parts, 0] - boxes[parts, 2], kind="stable")]
    groups: list[list[int]] = []
    whole = np.zeros((0, 4), np.int64)
    for part in order.tolist():
        to = _belongs_to(boxes[part], whole, height)
        if to is None:
            groups.append([part])
            whole = np.concatenate([whole, boxes[part][None]])
        else:
            groups[to].append(part)
            whole[to] = around(boxes[groups[to]])
    return [np.array(group) for group in groups]


def _belongs_to(box: NDArray[np.int64], whole: NDArray[np.int64], height: float) -> int | None:
    """Return the number of the character, of those with boxes ``whole`` (n, 4), that a part belongs to."""
    if not len(whole):
        return None
    down = np.maximum(whole[:, 0] - box[2], box[0] - whole[:, 2]) / height  # gaps; negative where they overlap
    across = np.maximum(whole[:, 1] - box[3], box[1] - whole[:, 3]) / height
    narrower = np.minimum(whole[:, 3] - whole[:, 1], box[3] - box[1]) / height
    together = (np.maximum(whole[:, 2], box[2]) - np.minimum(whole[:, 0], box[0])) / height
    is_over = -across >= _OVER * narrower
    is_small = box[2] - box[0] < _SMALL * height
    dot = is_small & is_over & (down < _ABOVE) & (together < _TOGETHER)
    beside = is_small & (np.maximum(down, 0) + np.maximum(across, 0) < _BESIDE) & (together < _TOGETHER)
    half = is_over & (together < _BROKEN)
    near = np.where(dot | beside | half, np.maximum(down, 0) + np.maximum(across, 0), np.inf)
    best = int(near.argmin())
    return best if np.isfinite(near[best]) else None


def _rows(boxes: NDArray[np.int64], height: float) -> list[NDArray[np.int64]]:
    """Return the numbers of the boxes (n, 4) in each line, from left to right, the lines from top to bottom.

    Going from left to right, a box joins the line whose last ones it stands beside, so a line may rise and fall.
    """
    if not len(boxes):
        return []
    middles, columns = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    angle = _angle(middles, columns, height)
    levels = middles * np.cos(angle) - columns * np.sin(angle)
    lines: list[list[int]] = []
    for number in columns.argsort(kind="stable").tolist():
        ends = np.array([levels[line[-_REMEMBERED:]].mean() for line in lines])
        off = np.abs(ends - levels[number]) / height
        if len(lines) and off.min() < _OFF:
            lines[int(off.argmin())].append(number)
        else:
            lines.append([number])
    lines.sort(key=lambda line: float(np.median(levels[line])))
    return [np.array(line) for line in lines]


def _angle(middles: NDArray[np.float64], columns: NDArray[np.float64], height: float) -> float:
    """Return at which angle lines run, in radians, rising columns going down: that at which they are told apart best.

    It is the one with the highest power of the histogram of levels, as in the projection profiles of W. Postl,
    "Detection of linear oblique structures and skew scan in digitized documents", 1986; of those alike the least.
    """
    levels = middles * np.cos(_ANGLES[:, None]) - columns * np.sin(_ANGLES[:, None])  # (angles, n)
    power = np.array([_power(places) for places in np.sort(levels / height)])
    best = np.flatnonzero(power > 0.98 * power.max())
    return float(_ANGLES[best[np.abs(_ANGLES[best]).argmin()]])


def _power(places: NDArray[np.float64]) -> float:
    """Return the sum of 1 - 2 * distance over all pairs of places, ascending, that are less than a half apart."""
    up_to = np.concatenate([[0], places.cumsum()])
    ends = places.searchsorted(places + 0.5)
    begins = np.arange(1, len(places) + 1)
    number = ends - begins  # of the further places near to each
    apart = up_to[ends] - up_to[begins] - number * places
    return float(len(places) + 2 * (number - 2 * apart).sum())  # each pair twice, and each place with itself


def _marks(line: list[NDArray[np.int64]], whole: NDArray[np.int64], spaces: list[bool], height: float) -> list[Mark]:
    """Return the marks of a line, its characters' parts and boxes (n, 4), and whether there is a space before each."""
    tall = max(height, float(np.median(whole[:, 2] - whole[:, 0])))
    return [
        Mark(parts, (box[0], box[1], box[2], box[3]), space, (box[3] - box[1]) / tall)
        for parts, box, space in zip(line, whole.tolist(), spaces, strict=True)
    ]
