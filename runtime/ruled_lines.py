"""Ruled lines and squares taken off the ink of a photograph.

A printed line runs on beyond any character. So each tile of the image is cut into strips, whose profiles are shifted
until the lines on them meet; what is then there in nearly all strips of a row, and at both ends, is a line. Tiles have
slopes of their own, so the sheet may lie aslant and be seen in perspective.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from .windows import COLUMNS, T, closing, extended, highest, lowest, odd

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
            found[tile] = _lines_of_tile(profiles[tile].T, strip).T
    if not found.any():
        return np.zeros_like(ink)
    lines = np.repeat(found, strip, axis=1)
    return np.pad(lines, ((0, 0), (0, width - lines.shape[1])), "edge")


def _lines_of_tile(profiles: NDArray[np.uint8], strip: int) -> NDArray[np.uint8]:
    """Return the ink of level lines on each strip of a tile, uint8 (strips, H), ``strip`` columns apart."""
    count, height = profiles.shape
    end = max(1, count // 8)
    if min(profiles[strips].max(axis=1).mean() for strips in (np.s_[:end], np.s_[-end:])) < _LEAST:
        return np.zeros_like(profiles)  # whatever its slope, there is none at both ends
    places = (np.arange(count) - (count - 1) / 2) * strip
    pale = np.minimum(profiles, _PALE).astype(np.uint16)
    if profiles.size <= _SMALL:
        rows = -(-_STEEPEST * count * strip // 2)  # by which the steepest line rises from the middle to the end
        slopes = np.linspace(-_STEEPEST, _STEEPEST, min(2 * int(rows) + 1, _MOST_SLOPES))
        slopes = _steepest_rise(pale, places, slopes) + _FINER
    else:
        slopes = _mean_slope(pale, strip) + _AROUND
    shifts = np.rint(_steepest_rise(pale, places, slopes) * places).astype(np.int64)
    level = _shifted(profiles, shifts[None])[0]  # (strips, H), lines in rows
    rank = int(_ABSENT * (count - 1))
    line = np.partition(level, rank, axis=0)[rank]
    for strips in (level[:end], level[-end:]):
        line = np.minimum(line, highest(np.rint(strips.mean(axis=0)).astype(np.uint8)[None], 1, 3)[0])
    thickest = odd(height / _THICKEST)
    line = line - highest(lowest(line[None], 1, thickest), 1, thickest)[0]
    line = np.where(line > np.maximum(_LEAST, _TIMES_NOISE * _median(line)), line, 0).astype(np.uint8)
    if not line.any():
        return np.zeros_like(profiles)
    line = highest(line[None], 1, 3)  # it may lie between two rows
    aslant: NDArray[np.uint8] = _shifted(np.repeat(line, count, axis=0), -shifts[None])[0]
    return aslant


def _mean_slope(pale: NDArray[np.uint16], strip: int) -> float:
    """Return rows a column that level lines rise by, from the directions in which the ink, (strips, H), stays the same.

    It is the least squares solution of ``dy * slope = -dx`` over the pixels that have a level edge, as for optical flow
    in B. Lucas, T. Kanade, "An iterative image registration technique", 1981.
    """
    levels = pale.T.astype(np.int16)
    down = (levels[2:, 1:-1] - levels[:-2, 1:-1]).astype(np.float32)
    across = (levels[1:-1, 2:] - levels[1:-1, :-2]).astype(np.float32) / strip
    edge = np.abs(across) < (_STEEPEST + 0.02) * np.abs(down)
    down, across = down[edge], across[edge]
    size = float(down @ down)
    return -float(down @ across) / size if size else 0.0


def _steepest_rise(pale: NDArray[np.uint16], places: NDArray[np.float64], slopes: NDArray[np.float64]) -> float:
    """Return the one of ``slopes`` at which the rows that have ink, (strips, H), all along the tile stand out most."""
    shifts = np.rint(slopes[:, None] * places).astype(np.int64)  # (slopes, strips)
    level = _shifted(pale, shifts)  # (slopes, strips, H)
    ends = np.arange(_SECTIONS + 1) * len(places) // _SECTIONS
    means = [level[:, first:end].sum(axis=1, dtype=np.uint16) / (end - first) for first, end in pairwise(ends)]
    everywhere = np.minimum.reduce(means)  # (slopes, H)
    above = np.maximum(everywhere - _median(everywhere), 0)
    return float(slopes[np.argmax((above**2).sum(axis=1))])


def _shifted(profiles: NDArray[T], shifts: NDArray[np.int64]) -> NDArray[T]:
    """Return profiles (strips, H), each strip moved up by its shift, once for each set of shifts: (sets, strips, H)."""
    count, height = profiles.shape
    room = int(np.abs(shifts).max())
    at_each_shift = sliding_window_view(extended(profiles, room, COLUMNS), height, axis=1)  # (strips, shifts, H), views
    moved: NDArray[T] = at_each_shift[np.arange(count), room + shifts]
    return moved


def _median(levels: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the median along the last axis, which stays; of few levels NumPy's own takes ten times as long."""
    size = levels.shape[-1]
    median: NDArray[np.float64] = np.sort(levels)[..., [(size - 1) // 2, size // 2]].mean(axis=-1, keepdims=True)
    return median
