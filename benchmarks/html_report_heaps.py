"""The page's pictures with a line for each row: how latencies spread, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .html_report_frame import SIZE, Ran, called, family, picture
from .html_report_svg import Axis, cut, line, log_limits, number, tag, text, tick, width_of
from .measured import Measured
from .results import Row

_BINS = 96
_RIDGE = 46  # height of a row
_TRANSFERS = {"h2d_ms": "H2D", "compute_ms": "compute", "d2h_ms": "D2H"}


def ridges(rows: Sequence[Ran], everyone: Sequence[Ran], width: int) -> str:
    """Draw how each row's latencies spread, over one logarithmic axis."""
    samples = [_samples_ms(measured) for _, measured in everyone]
    ends = [float(end) for each in samples for end in np.quantile(each, (0.001, 0.995))]
    height = _RIDGE * len(rows) + 44
    x = Axis(*log_limits(ends, 1.05), 8, width - 8, log=True)
    edges = np.logspace(np.log10(x.low), np.log10(x.high), _BINS + 1)
    floor = _RIDGE * len(rows)
    parts = []
    for value in x.ticks(int(width / 60)):
        parts += [line(x.at(value), 0, x.at(value), floor, "grid")]
        parts += [text(x.at(value), floor + 16, tick(value), class_="tick", text_anchor="middle")]
    parts.append(text(x.end, floor + 34, "latency of a query, ms", class_="title", text_anchor="end"))
    for place, (row, measured) in enumerate(rows):
        base = _RIDGE * (place + 1) - 2
        parts += _ridge(row, measured, edges, x, base)
        tail = measured.percentiles_ms
        said = f"{number(measured.median_ms)}" + (f", p99 {number(tail['p99'])}" if "p99" in tail else "") + " ms"
        room = width - 24 - width_of(said, SIZE)
        parts.append(text(x.start, base - _RIDGE + 14, cut(called(row), room, SIZE), class_="label"))
        parts.append(text(x.end, base - _RIDGE + 14, said, class_="label number", text_anchor="end"))
    return picture(width, height, "distribution of latencies", parts)


def _samples_ms(measured: Measured) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([np.asarray(each.latencies_ns, np.float64) for each in measured.rounds]) / 1e6


def _ridge(
    row: Row, measured: Measured, edges: np.ndarray[tuple[int], np.dtype[np.float64]], x: Axis, base: float
) -> list[str]:
    """Return one row's heap above ``base``; the first and the last bin hold what lies beyond."""
    counts, _ = np.histogram(np.clip(_samples_ms(measured), edges[0], edges[-1]), edges)
    tall = (_RIDGE - 20) / max(1, counts.max())
    step = (x.end - x.start) / _BINS
    path = "".join(f"V{base - tall * count:.1f}h{step:.2f}" for count in counts)
    kind = "cross-area" if row.verdict == "wrong" else f"area {family(row)}"
    parts = [tag("path", d=f"M{x.start} {base}{path}V{base}z", class_=kind)]
    for name in ("p90", "p99"):
        if (value := measured.percentiles_ms.get(name)) is not None and x.low <= value <= x.high:
            parts.append(line(x.at(value), base, x.at(value), base - 12, "tail"))
    middle = x.at(min(max(measured.median_ms, x.low), x.high))
    return [*parts, line(middle, base + 1, middle, base - _RIDGE + 20, "median")]


def transfers(rows: Sequence[Ran], everyone: Sequence[Ran], width: int) -> str:
    """Draw copies and computation of a query, stacked: a bar per row, its name above it, its sum behind it."""
    top = max(sum(m.device_ms[key] for key in _TRANSFERS) for _, m in everyone if m.device_ms)
    parts, y, left = [], 4.0, 8.0
    for key, name in _TRANSFERS.items():
        parts.append(tag("rect", x=left, y=y, width=11, height=11, class_=f"part {key}"))
        parts.append(text(left + 15, y + 10, name, class_="label"))
        left += 27 + width_of(name, SIZE)
    y += 20
    room = width - 22 - width_of(f"{number(top)} ms", SIZE)
    for row, measured in rows:
        times = measured.device_ms or {}
        name = called(row) + (", host-bound" if measured.host_bound else "")
        parts.append(text(8, y + 12, cut(name, width - 16, SIZE), class_="label"))
        left = 8.0
        for key in _TRANSFERS:
            wide = times[key] / (top or 1.0) * room
            title = tag("title", f"{times[key]:.4g} ms")
            parts.append(tag("rect", title, x=left, y=y + 17, width=wide, height=15, class_=f"part {key}"))
            left += wide
        whole = sum(times[key] for key in _TRANSFERS)
        parts.append(text(left + 6, y + 29, f"{number(whole)} ms", class_="label number"))
        y += 42
    return picture(width, y + 4, "copies and computation", parts)
