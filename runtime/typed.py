"""JSON values that must be of one kind: what Python would take for another goes no further."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

NUMBER = (int, float)
_LONGEST = 80  # characters shown of what is wrong


def checked(value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    """Return ``value`` if it is of ``kind``; true and false are no numbers.

    Raises:
        TypeError: it is of another; the message says what ``what`` is.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{what} is {repr(value)[:_LONGEST]}")
    return value


def each_checked(values: Any, kind: type | tuple[type, ...], what: str, each: str) -> tuple[Any, ...]:
    """Return the values of a list, or of the tuple it came from, whose values are all of ``kind``.

    Raises:
        TypeError: it is no list, or one of them is of another.
    """
    return tuple(checked(value, kind, each) for value in checked(values, (list, tuple), what))


def only(data: Any, known: Iterable[str], what: str) -> dict[str, Any]:
    """Return ``data``, an object that has no other names than ``known``.

    Raises:
        TypeError: it is none, or has.
    """
    if strangers := sorted(set(checked(data, dict, what)) - set(known)):
        raise TypeError(f"{what} has the unknown {', '.join(strangers)[:_LONGEST]}")
    found: dict[str, Any] = data
    return found
