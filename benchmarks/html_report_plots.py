"""The page's two plots: accuracy against latency, and throughput against batch size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .columns import leads
from .html_report_frame import (
    BOTTOM,
    LEFT,
    RIGHT,
    SIZE,
    TOP,
    Ran,
    called,
    family,
    frame,
    labels_beside,
    marker,
    picture,
)
from .html_report_svg import Axis, Box, cut, line, log_limits, spread_out, tag, text, width_of
from .measured import Accuracy


def pareto(rows: Sequence[Ran], everyone: Sequence[Ran], width: int) -> str:
    """Draw accuracy against median latency; rows whose answers are wrong lie on the edge if they are far below."""
    height = 300
    told = [(row, measured.median_ms, measured.accuracy) for row, measured in rows if measured.accuracy]
    x, y = _pareto_axes(everyone, width, height)
    parts = [*frame(x, y, "median latency of a query, ms", "accuracy, %", 100)]
    front = _front([(ms, _share(accuracy)) for row, ms, accuracy in told if leads(row)])
    corners = [(x.at(ms), y.at(share)) for ms, share in front]
    for (left, lower), (right, upper) in pairwise(corners):
        parts += [line(left, lower, right, lower, "front"), line(right, lower, right, upper, "front")]
    points, labels = [], []
    for row, ms, accuracy in told:
        at = (x.at(ms), y.at(max(_share(accuracy), y.low)))
        if leads(row):
            parts.append(line(at[0], y.at(max(accuracy.low, y.low)), at[0], y.at(accuracy.high), f"bar {family(row)}"))
        below = f" ({_share(accuracy):.1%})" if _share(accuracy) < y.low else ""
        points.append(at)
        labels.append(called(row) + below)
        parts.append(marker(row, *at, f"{called(row)}: {ms:.3f} ms, {_share(accuracy):.2%}"))
    parts += labels_beside(points, labels, Box(x.start + 2, y.end, x.end, y.start - 2), 0.62 * width)
    return picture(width, height, "accuracy against latency", parts)


def _share(accuracy: Accuracy) -> float:
    return accuracy.right / accuracy.images


def _pareto_axes(everyone: Sequence[Ran], width: int, height: int) -> tuple[Axis, Axis]:
    """Return axes that hold all rows, but not how low those lie whose answers are wrong: it would squash the others."""
    right = [m.accuracy for row, m in everyone if m.accuracy and leads(row)]
    shown = right or [m.accuracy for _, m in everyone if m.accuracy]
    low, high = min(each.low for each in shown), max(each.high for each in shown)
    pad = max(0.1 * (high - low), 0.0005)
    x = Axis(*log_limits([m.median_ms for _, m in everyone], 1.3), LEFT, width - RIGHT, log=True)
    return x, Axis(max(0.0, low - pad), min(1.0 + pad / 4, high + pad), height - BOTTOM, TOP)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that none is both faster and as often right as, from fast to slow."""
    found: list[tuple[float, float]] = []
    for ms, share in sorted(points, key=lambda each: (each[0], -each[1])):
        if not found or share > found[-1][1]:
            found.append((ms, share))
    return found


def throughput(rows: Sequence[Ran], everyone: Sequence[Ran], width: int) -> str:
    """Draw images per second over batch size, both axes logarithmic, a line per row with its name at the end."""
    names = list(dict.fromkeys(row.name for row, _ in rows))
    height = max(320, 15 * len(names) + TOP + BOTTOM)
    room = min(0.42 * width, max(width_of(name, SIZE) for name in names) + 12)
    batches = sorted({row.batch for row, _ in everyone})
    x = Axis(*log_limits(batches, 1.15), LEFT, width - room - 6, log=True)
    y = Axis(*log_limits([m.images_per_second for _, m in everyone]), height - BOTTOM, TOP, log=True)
    parts = frame(x, y, "batch size", "images/s", x_ticks=batches)
    ends = []
    for name in names:
        line_rows = sorted(((row, m) for row, m in rows if row.name == name), key=lambda each: each[0].batch)
        spots = [(x.at(row.batch), y.at(m.images_per_second)) for row, m in line_rows]
        wrong = any(row.verdict == "wrong" for row, _ in line_rows)
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in spots)
        parts.append(tag("path", d=path, class_=f"series {'cross-line' if wrong else family(line_rows[0][0])}"))
        for (row, m), spot in zip(line_rows, spots, strict=True):
            parts.append(marker(row, *spot, f"{called(row)}, batch {row.batch}: {m.images_per_second:,.0f} images/s"))
        ends.append((spots[-1], ("WRONG: " if wrong else "") + name))
    for ((px, py), name), base in zip(
        ends, spread_out([spot[1] for spot, _ in ends], 14, y.end + 4, y.start - 2), strict=True
    ):
        parts.append(line(px + 6, py, x.end + 6, base, "leader"))
        parts.append(text(x.end + 9, base + 4, cut(name, room, SIZE), class_="label"))
    return picture(width, height, "throughput against batch size", parts)
