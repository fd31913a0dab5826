"""Ruled lines and squares taken off the ink of a photograph.

A printed line runs on beyond any character. So each tile of the image is cut into strips, whose profiles are shifted
until the lines on them meet; what is then there in nearly all strips of a row, and at both ends, is a line. Tiles have
slopes of their own, so the sheet may lie aslant and be seen in perspective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .windows import closing, highest, lowest, odd

_TILE_ROWS, _TILE_COLUMNS = 260, 330  # pixels of a tile, about
_STRIP = 12  # columns of a strip, at most
_STEEPEST = 0.1  # rows a column; 5.7 degrees
_MOST_SLOPES = 21  # that are tried; in a small tile those that differ by a row are fewer
_FINER = np.array([0.0, -0.006, 0.006])
_AROUND = np.array([0.0, -0.006, 0.006, -0.012, 0.012])
_SECTIONS = 4  # in which a row must have ink
_PALE = 96  # ink up to which strokes count when the slope is sought: they are darker than lines
_SMALL = 5000  # points of a tile's profiles up to which all slopes are tried
_ABSENT = 0.2  # share of the strips of a row that may lack the line
_THICKEST = 8  # a line is thinner than the tile's height over this
_LEAST = 4  # ink that a line has, 0 to 255, at least, and
_TIMES_NOISE = 3  # how many times as much as the row in the middle
_MORE = 5  # fourths of a line's ink that are taken off, for it is not even


@dataclass(frozen=True)
class Ruling:
    """What lines there are.

    Attributes:
        ink: without them, uint8 (H, W).
        lines: theirs, uint8 (H, W), 0 where there is none.
    """

    ink: NDArray[np.uint8]
    lines: NDArray[np.uint8]

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return bool(self.lines.any())


def take_lines_off(ink: NDArray[np.uint8], *, mend: bool) -> Ruling:
    """Return ``ink``, light on black, uint8 (H, W), without level lines and then without upright ones.

    Args:
        ink: of a photograph whose paper was taken off.
        mend: bridge the gaps that dark lines leave in the strokes they cross.
    """
    level = _level_lines(ink)
    left = _without(ink, level, mend=mend)
    turned = np.ascontiguousarray(left.T)
    upright = _level_lines(turned)
    left = np.ascontiguousarray(_without(turned, upright, mend=mend).T)
    return Ruling(left, np.maximum(level, upright.T))


def _without(ink: NDArray[np.uint8], lines: NDArray[np.uint8], *, mend: bool) -> NDArray[np.uint8]:
    if not lines.any():
        return ink
    more = np.minimum(lines, 255 * 4 // _MORE)
    left: NDArray[np.uint8] = ink - np.minimum(ink, more + more // (_MORE - 1))
    if not mend:
        return left
    window = odd(min(_thickness(lines), len(ink) // 6) + 2)
    bridged = np.minimum(closing(left, window, 3), ink)
    mended: NDArray[np.uint8] = np.where(lines > 0, np.maximum(left, bridged), left)
    return mended


def _thickness(lines: NDArray[np.uint8]) -> int:
    """Return the mean number of rows of a line in the column where it is greatest."""
    there = lines[:, :: max(1, lines.shape[1] // 8)] > 0
    begun = (there[1:] > there[:-1]).sum(axis=0) + there[0]
    return int(np.ceil((there.sum(axis=0) / np.maximum(begun, 1)).max()))


def _level_lines(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the ink of lines from left to right, uint8 (H, W)."""
    height, width = ink.shape
    strip = max(2, min(_STRIP, width // 24))
    count = width // strip
    if count < 4 or height < _THICKEST:
        return np.zeros_like(ink)
    profiles = np.asarray(Image.fromarray(ink[:, : count * strip]).reduce((strip, 1)))  # (H, strips)
    found = np.empty_like(profiles)
    for rows in np.array_split(np.arange(height), max(1, round(height / _TILE_ROWS))):
        for columns in np.array_split(np.arange(count), max(1, round(width / _TILE_COLUMNS))):
            tile = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            found[tile] = _lines_of_tile(profiles[tile], strip)
    if not found.any():
        return np.zeros_like(ink)
    lines = np.repeat(found, strip, axis=1)
    return np.pad(lines, ((0, 0), (0, width - lines.shape[1])), "edge")


def _lines_of_tile(profiles: NDArray[np.uint8], strip: int) -> NDArray[np.uint8]:
    """Return the ink of level lines on each strip of a tile, uint8 (H, strips), ``strip`` columns apart."""
    height, count = profiles.shape
    places = (np.arange(count) - (count - 1) / 2) * strip
    if profiles.size <= _SMALL:
        rows = -(-_STEEPEST * count * strip // 2)  # by which the steepest line rises from the middle to the end
        slopes = np.linspace(-_STEEPEST, _STEEPEST, min(2 * int(rows) + 1, _MOST_SLOPES))
        slopes = _steepest_rise(profiles, places, slopes) + _FINER
    else:
        slopes = _mean_slope(profiles, strip) + _AROUND
    shifts = np.rint(_steepest_rise(profiles, places, slopes) * places).astype(np.int64)
    level = _shifted(profiles, shifts[None])[0]  # (H, strips), lines in rows
    rank = int(_ABSENT * (count - 1))
    line = np.partition(level, rank, axis=1)[:, rank]
    end = max(1, count // 8)
    for strips in (level[:, :end], level[:, -end:]):
        line = np.minimum(line, highest(np.rint(strips.mean(axis=1)).astype(np.uint8)[:, None], 3, 1)[:, 0])
    thickest = odd(height / _THICKEST)
    line = line - highest(lowest(line[:, None], thickest, 1), thickest, 1)[:, 0]
    line = np.where(line > max(_LEAST, _TIMES_NOISE * np.median(line)), line, 0).astype(np.uint8)
    if not line.any():
        return np.zeros_like(profiles)
    line = highest(line[:, None], 3, 1)  # it may lie between two rows
    aslant: NDArray[np.uint8] = _shifted(np.repeat(line, count, axis=1), -shifts[None])[0]
    return aslant


def _mean_slope(profiles: NDArray[np.uint8], strip: int) -> float:
    """Return rows a column that level lines rise by, from the directions in which the ink does not change.

    It is the least squares solution of ``dy * slope = -dx`` over the pixels that have a level edge, as for optical flow
    in B. Lucas, T. Kanade, "An iterative image registration technique", 1981.
    """
    levels = np.minimum(profiles, _PALE).astype(np.int16)
    down = (levels[2:, 1:-1] - levels[:-2, 1:-1]).astype(np.float32)
    across = (levels[1:-1, 2:] - levels[1:-1, :-2]).astype(np.float32) / strip
    edge = np.abs(across) < (_STEEPEST + 0.02) * np.abs(down)
    down, across = down[edge], across[edge]
    size = float(down @ down)
    return -float(down @ across) / size if size else 0.0


def _steepest_rise(profiles: NDArray[np.uint8], places: NDArray[np.float64], slopes: NDArray[np.float64]) -> float:
    """Return the one of ``slopes`` at which the rows that have ink all along the tile stand out most."""
    shifts = np.rint(slopes[:, None] * places).astype(np.int64)  # (slopes, strips)
    level = _shifted(profiles, shifts)  # (slopes, H, strips)
    sections = np.linspace(0, len(places), min(_SECTIONS, len(places)) + 1).astype(np.int64)
    sums = np.add.reduceat(np.minimum(level, _PALE), sections[:-1], axis=2, dtype=np.float32)
    everywhere = (sums / np.diff(sections)).min(axis=2)  # (slopes, H)
    above = np.maximum(everywhere - np.median(everywhere, axis=1, keepdims=True), 0)
    return float(slopes[np.argmax((above**2).sum(axis=1))])


def _shifted(profiles: NDArray[np.uint8], shifts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return profiles (H, strips), each strip moved up by its shift, once for each set of shifts: (sets, H, strips)."""
    height, count = profiles.shape
    rows = np.clip(np.arange(height)[None, :, None] + shifts[:, None, :], 0, height - 1)
    moved: NDArray[np.uint8] = profiles[rows, np.arange(count)]
    return moved
