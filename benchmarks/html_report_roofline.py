"""The page's roofline: what rows reach of what the machine's peaks allow at so many multiply-adds a byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .html_report_frame import BOTTOM, LEFT, RIGHT, SIZE, TOP, Ran, called, frame, key, marker, numbered, picture
from .html_report_svg import Axis, Box, log_limits, number, tag, text, width_of
from .roofline import Roofline

_G = 1e9
_HEIGHT = 340


def has_roof(each: Ran) -> bool:
    """Tell whether a row can be drawn; a stored result may have a bound without what it rests on."""
    row, measured = each
    if row.roofline is None or not row.roofline.fraction or not measured.median_ms:
        return False
    bandwidth, peak = _roof(row.roofline)
    return bandwidth > 0 and 0 < peak / bandwidth < math.inf


def rooflines(rows: Sequence[Ran], everyone: Sequence[Ran], width: int) -> str:
    """Draw multiply-adds a second over multiply-adds a byte, both axes logarithmic, below the roofs of the rows."""
    spots = [_spot(each) for each in everyone]
    roofs = {_roof(roof): " + ".join(roof.macs) for roof, _ in map(_told, rows)}  # alike where the formats are
    corners = [(peak / bandwidth, peak) for bandwidth, peak in (_roof(roof) for roof, _ in map(_told, everyone))]
    x = Axis(*log_limits([at for at, _ in (*spots, *corners)], 1.6), LEFT, width - RIGHT, log=True)
    y = Axis(*log_limits([at for _, at in (*spots, *corners)], 1.6), _HEIGHT - BOTTOM, TOP, log=True)
    parts = frame(x, y, "multiply-adds a byte", "G multiply-adds/s")
    names = []
    for (bandwidth, peak), kinds in roofs.items():
        first = max(x.low, y.low / bandwidth)  # where the slope comes into the picture
        path = [(first, first * bandwidth), (peak / bandwidth, peak), (x.high, peak)]
        parts.append(tag("path", d="M" + "L".join(f"{x.at(a):.1f} {y.at(b):.1f}" for a, b in path), class_="roof"))
        said, base = f"{kinds}: {number(peak)} G/s, {number(bandwidth)} GB/s", y.at(peak) - 4
        parts.append(text(x.end, base, said, class_="tick", text_anchor="end"))
        names.append(Box(x.end - width_of(said, SIZE), base - SIZE, x.end, base + 4))
    points = [(x.at(a), y.at(b)) for a, b in map(_spot, rows)]
    labels = [f"{called(row)}, {_told((row, measured))[0].fraction:.0%}" for row, measured in rows]
    for (row, measured), at in zip(rows, points, strict=True):
        roof, _ = _told((row, measured))
        why = f"; {roof.above}" if roof.above else ""
        parts.append(
            marker(row, *at, f"{called(row)}: {roof.fraction:.1%} of its bound, limited by {roof.limited_by}{why}")
        )
    parts += numbered(points, Box(x.start + 2, y.end, x.end, y.start - 2), names)
    named, end = key([row for row, _ in rows], labels, _HEIGHT, width)
    return picture(width, end, "roofline", [*parts, *named])


def _told(each: Ran) -> tuple[Roofline, float]:
    """Return a row's roofline and the median in s."""
    row, measured = each
    assert row.roofline is not None  # noqa: S101 - of rows that have one
    return row.roofline, measured.median_ms / 1e3


def _spot(each: Ran) -> tuple[float, float]:
    """Return multiply-adds a byte, and how many G of them a second the row reached."""
    roof, median_s = _told(each)
    return roof.intensity, sum(roof.macs.values()) / median_s / _G


def _roof(roof: Roofline) -> tuple[float, float]:
    """Return bandwidth and peak in G a second."""
    return (roof.peak_bytes_per_s or 0.0) / _G, (roof.peak_macs_per_s or 0.0) / _G
