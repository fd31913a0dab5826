"""Small pieces of SVG: text, axes, labels that do not lie on each other; colours are classes of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LETTER = 0.56  # mean width of a letter of a sans-serif font, in its size: wide enough for most texts
_LEAST = 1e-6  # what a logarithmic axis shows in place of 0: of milliseconds, a nanosecond
_MOST = 1e30  # beyond what any machine does, and its square is a number still


def tag(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an element; ``content`` is markup already, an underscore in an attribute's name stands for a hyphen."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_written(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"


def _written(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def text(x: float, y: float, said: str, /, **attributes: object) -> str:
    """Return a text whose baseline is at ``y``."""
    return tag("text", escape(said), x=round(x, 1), y=round(y, 1), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a straight line."""
    return tag("line", x1=round(x1, 1), y1=round(y1, 1), x2=round(x2, 1), y2=round(y2, 1), class_=class_)


def width_of(said: str, size: float) -> float:
    """Return about how wide a text is in a font of ``size``."""
    return _LETTER * size * len(said)


def cut(said: str, room: float, size: float) -> str:
    """Return as much of a text as has room."""
    letters = max(1, int(room / (_LETTER * size)))
    return said if len(said) <= letters else said[: letters - 1] + "…"


@dataclass(frozen=True)
class Axis:
    """Where values lie.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``.
        start: in the picture.
        end: in the picture; below ``start`` for an axis that points up.
        log: equal factors are equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies."""
        if self.log:
            low, high, value = (math.log10(_drawable(each)) for each in (self.low, self.high, value))
        else:
            low, high = self.low, self.high
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Return round values in the axis, ``most`` at most."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
        first = math.ceil(round(self.low / step, 9))
        return [each * step for each in range(first, math.floor(round(self.high / step, 9)) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def _drawable(value: float) -> float:
    """Return a value that a logarithmic axis can hold, whatever a file says."""
    return min(max(_LEAST, value), _MOST)


def log_limits(values: Sequence[float], margin: float = 1.12) -> tuple[float, float]:
    """Return the ends of a logarithmic axis that holds these values, a factor of 1.5 at least."""
    low, high = _drawable(min(values)) / margin, _drawable(max(values)) * margin
    middle, reach = math.sqrt(low * high), max(math.sqrt(high / low), math.sqrt(1.5))
    return middle / reach, middle * reach


def number(value: float) -> str:
    """Return a number for people: three digits, no exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def tick(value: float) -> str:
    """Return a number without zeros at its end."""
    said = number(value)
    return said.rstrip("0").rstrip(".") if "." in said else said


@dataclass(frozen=True)
class Box:
    """A rectangle that something fills."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Tell whether both have a point in common."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def place_labels(
    points: Sequence[tuple[float, float]], labels: Sequence[str], size: float, inside: Box, around: Sequence[Box] = ()
) -> list[tuple[float, float]]:
    """Return where each point's label begins, its left end and its baseline, so that none lies on another or a point.

    Nor does one lie on what is there already, ``around``. Each takes the nearest free place of those beside, above and
    below; where none is free, the one that lies on the fewest labels, and of those on the least else.
    """
    drawn = [*around, *(Box(x - 6, y - 6, x + 6, y + 6) for x, y in points)]
    written: list[Box] = []
    for (x, y), label in zip(points, labels, strict=True):
        wide = width_of(label, size)
        offsets = [(dx, step * 1.25 * size) for step in range(12) for dx in (9.0, -9.0 - wide, -wide / 2)]
        boxes = []
        for dx, dy in offsets:
            left = max(inside.left, min(x + dx, inside.right - wide))
            for base in (y - dy + 0.35 * size, y + dy + 0.35 * size):
                bottom = max(inside.top + 1.25 * size, min(base + 0.25 * size, inside.bottom))
                boxes.append(Box(left, bottom - 1.25 * size, left + wide, bottom))
        written.append(min(boxes, key=lambda box: (_met(box, written), _met(box, drawn))))
    return [(box.left, box.bottom - 0.25 * size) for box in written]


def _met(box: Box, others: Sequence[Box]) -> int:
    return sum(box.meets(other) for other in others)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near those wanted, in their order, at least ``gap`` apart where there is room."""
    order = sorted(range(len(wanted)), key=lambda each: wanted[each])
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    placed: list[float] = []
    for rank, index in enumerate(order):
        ceiling = high - gap * (len(order) - 1 - rank)
        placed.append(min(ceiling, max(wanted[index], low + gap * rank, placed[-1] + gap if placed else low)))
    found = [0.0] * len(wanted)
    for index, position in zip(order, placed, strict=True):
        found[index] = position
    return found
