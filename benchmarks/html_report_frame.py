"""What the page's charts share: their sizes, a row's colour, mark and name, and the frame of a plot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import dist

from .html_report_svg import Axis, Box, cut, line, place_labels, tag, text, tick, width_of
from .measured import Measured
from .results import Row

SIZE = 12.0  # of letters
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 44  # margins of a plot

_KEY_LINE = 18  # height of a line of the list below a plot
_MARK = 12  # how wide a row's mark is

Ran = tuple[Row, Measured]

_FAMILIES = ("eager", "torch", "pytorch", "onnxruntime", "openvino", "litert", "tensorrt")


def picture(width: int, height: float, label: str, content: Sequence[str]) -> str:
    """Return the picture of these parts; ``label`` says what it shows to who cannot see it."""
    return tag(
        "svg",
        "\n".join(content),
        viewBox=f"0 0 {width} {height:.0f}",
        width=width,
        height=round(height),
        role="img",
        aria_label=label,
    )


def family(row: Row) -> str:
    """Return the class of the row's colour: one for each library."""
    return next((name for name in _FAMILIES if row.backend.startswith(name)), "other")


def called(row: Row) -> str:
    """Return the row's name with what a reader must know before all else."""
    marks = {"wrong": "WRONG: ", "too noisy": "too noisy: "}
    return marks.get(row.verdict, "peer: " if row.kind == "peer" else "") + row.name


def marker(row: Row, x: float, y: float, said: str) -> str:
    """Return a point: colour by library, shape by precision; a cross where the answers are wrong."""
    title = tag("title", escape(said))
    if row.verdict == "wrong":
        shape = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
        return tag("path", title, d=shape, class_="cross")
    shapes = {
        "int8": f"M{x - 5:.1f} {y - 5:.1f}h10v10h-10z",
        "fp8": f"M{x:.1f} {y - 6:.1f}l6 11h-12z",
        **dict.fromkeys(("fp16", "bf16"), f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"),
    }
    circle = f"M{x - 5.5:.1f} {y:.1f}a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z"
    noisy = " noisy" if row.verdict == "too noisy" else ""
    return tag("path", title, d=shapes.get(row.precision or "", circle), class_=f"point {family(row)}{noisy}")


def numbered(points: Sequence[tuple[float, float]], inside: Box, around: Sequence[Box] = ()) -> list[str]:
    """Return the points' numbers beside them, one text for marks that touch, with a line where it had to go away.

    Names would lie on each other and on what is drawn: they stand in the ``key`` below.
    """
    marks: dict[tuple[float, float], list[str]] = {}
    for number, point in enumerate(points, 1):
        marks.setdefault(next((each for each in marks if dist(each, point) < _MARK), point), []).append(str(number))
    said = [", ".join(numbers) for numbers in marks.values()]
    # Digits are wider than most letters, commas and spaces narrower; and two texts side by side must not read as one.
    room = [label.replace(", ", ",") + " " for label in said]
    drawn = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    parts = []
    for label, (x, y), (left, base) in zip(
        said, marks, place_labels(list(marks), room, SIZE, inside, [*around, *drawn]), strict=True
    ):
        if abs(base - y) > 2 * SIZE:
            near = min(max(x, left), left + width_of(label, SIZE))
            parts.append(line(x, y, near, base + 3 if base < y else base - SIZE + 2, "leader"))
        parts.append(text(left, base, label, class_="label number"))
    return parts


def key(rows: Sequence[Row], names: Sequence[str], top: float, width: int) -> tuple[list[str], float]:
    """Return a line with number, mark and name for each row, from ``top`` down, and where the last one ends."""
    parts = []
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        base = top + _KEY_LINE * (place + 1) - 5
        parts.append(text(LEFT - 6, base, str(place + 1), class_="label number", text_anchor="end"))
        parts.append(marker(row, LEFT + 6, base - 4, name))
        parts.append(text(LEFT + 18, base, cut(name, width - LEFT - 18, SIZE), class_="label"))
    return parts, top + _KEY_LINE * len(rows)


def frame(
    x: Axis, y: Axis, x_title: str, y_title: str, y_scale: float = 1.0, x_ticks: Sequence[float] | None = None
) -> list[str]:
    """Return grid, ticks and titles of a plot."""
    parts = []
    for value in x_ticks or x.ticks(int((x.end - x.start) / 60)):
        parts += [line(x.at(value), y.start, x.at(value), y.end, "grid")]
        parts += [text(x.at(value), y.start + 16, tick(value), class_="tick", text_anchor="middle")]
    ticks = y.ticks(6)
    decimals = next(d for d in range(9) if all(abs(v * y_scale * 10**d % 1 - 0.5) > 0.499 for v in ticks) or d == 8)
    for value in ticks:
        said = f"{value * y_scale:.{decimals}f}" if y_scale != 1 else tick(value)
        parts += [line(x.start, y.at(value), x.end, y.at(value), "grid")]
        parts += [text(x.start - 6, y.at(value) + 4, said, class_="tick", text_anchor="end")]
    parts.append(text(x.end, y.start + 34, x_title, class_="title", text_anchor="end"))
    parts.append(text(x.start, y.end - 12, y_title, class_="title"))
    return parts
