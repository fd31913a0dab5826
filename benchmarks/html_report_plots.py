"""The page's plots: accuracy against latency, and throughput against batch size or what else was swept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    key,
    marker,
    numbered,
    picture,
)
from .html_report_svg import Axis, Box, cut, line, log_limits, spread_out, tag, text, width_of
from .measured import Accuracy
from .results import Row


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
    points, labels, bars = [], [], []
    for row, ms, accuracy in told:
        at = (x.at(ms), y.at(max(_share(accuracy), y.low)))
        if leads(row):
            foot, head = y.at(max(accuracy.low, y.low)), y.at(accuracy.high)
            parts.append(line(at[0], foot, at[0], head, f"bar {family(row)}"))
            bars.append(Box(at[0] - 1, head, at[0] + 1, foot))
        below = f" ({_share(accuracy):.1%})" if _share(accuracy) < y.low else ""
        points.append(at)
        labels.append(called(row) + below)
        parts.append(marker(row, *at, f"{called(row)}: {ms:.3f} ms, {_share(accuracy):.2%}"))
    parts += numbered(points, Box(x.start + 2, y.end, x.end, y.start - 2), bars)
    names, end = key([row for row, *_ in told], labels, height, width)
    return picture(width, end, "accuracy against latency", [*parts, *names])


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


def throughput_over(title: str, value: Callable[[Row], int]) -> Callable[[Sequence[Ran], Sequence[Ran], int], str]:
    """Return what draws images per second over the ``value`` of rows, called ``title``."""

    def draw(rows: Sequence[Ran], everyone: Sequence[Ran], width: int) -> str:
        return _throughput(rows, everyone, width, title, value)

    return draw


def _throughput(
    rows: Sequence[Ran], everyone: Sequence[Ran], width: int, title: str, value: Callable[[Row], int]
) -> str:
    """Draw both axes logarithmic, a line per series of rows with its name at the end, a ring about its knee."""
    names = list(dict.fromkeys(row.series for row, _ in rows))
    height = max(320, 15 * len(names) + TOP + BOTTOM)
    room = min(0.42 * width, max(width_of(name, SIZE) for name in names) + 12)
    values = sorted({value(row) for row, _ in everyone})
    x = Axis(*log_limits(values, 1.15), LEFT, width - room - 6, log=True)
    y = Axis(*log_limits([m.images_per_second for _, m in everyone]), height - BOTTOM, TOP, log=True)
    parts = frame(x, y, title, "images/s", x_ticks=values)
    ends = []
    for name in names:
        line_rows = sorted(((row, m) for row, m in rows if row.series == name), key=lambda each: value(each[0]))
        spots = [(x.at(value(row)), y.at(m.images_per_second)) for row, m in line_rows]
        wrong = any(row.verdict == "wrong" for row, _ in line_rows)
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in spots)
        parts.append(tag("path", d=path, class_=f"series {'cross-line' if wrong else family(line_rows[0][0])}"))
        for (row, m), spot in zip(line_rows, spots, strict=True):
            said = f"{called(row)}, batch {row.batch}: {m.images_per_second:,.0f} images/s"
            if row.knee:
                parts.append(tag("circle", cx=spot[0], cy=spot[1], r=10, class_="knee"))
            parts.append(marker(row, *spot, f"{said}{', the knee' if row.knee else ''}"))
        ends.append((spots[-1], ("WRONG: " if wrong else "") + name))
    for ((px, py), name), base in zip(
        ends, spread_out([spot[1] for spot, _ in ends], 14, y.end + 4, y.start - 2), strict=True
    ):
        parts.append(line(px + 6, py, x.end + 6, base, "leader"))
        parts.append(text(x.end + 9, base + 4, cut(name, room, SIZE), class_="label"))
    return picture(width, height, f"throughput against {title}", parts)
