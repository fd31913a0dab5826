"""JSON from anywhere: what JSON has no words for, and what no program of ours writes, is refused while reading."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

MOST_BYTES = 2**23  # Python makes up to thirty times as much of it
_DEEPEST = 32
_MOST_DIGITS = 19  # of a whole number: 64 bits


def read_json(data: bytes, most_bytes: int | None = None) -> Any:
    """Return the value of UTF-8 JSON of ``most_bytes`` at most, of ``MOST_BYTES`` if not given.

    Raises:
        ValueError: it is no JSON; or it has NaN, an infinite or a huge number, a name twice in one object, text that
            is no Unicode, or nests deeper than ``_DEEPEST``; in words.
    """
    most = MOST_BYTES if most_bytes is None else most_bytes
    if len(data) > most:
        raise ValueError(f"expected {most:,} bytes of JSON at most, found {len(data):,}")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_object, parse_constant=_refuse, parse_int=_whole, parse_float=_number
        )
    except RecursionError:
        raise ValueError(f"expected {_DEEPEST} levels at most, found more") from None
    for text in texts(value):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"expected text, found half a character in {text[:40]!a}") from None
    return value


def read_printable(data: bytes) -> Any:
    """Return the value of JSON that goes to terminals: no text in it steers them.

    Raises:
        ValueError: as ``read_json``, or a text cannot be printed.
    """
    value = read_json(data)
    for text in texts(value):
        if not text.isprintable():
            raise ValueError(f"expected text that can be printed, found {text[:40]!a}")
    return value


def texts(value: Any) -> Iterator[str]:
    """Yield every text and every name in a JSON value.

    Raises:
        ValueError: it nests deeper than ``_DEEPEST``.
    """
    level = [value]
    for _ in range(_DEEPEST + 1):
        yield from (each for each in level if isinstance(each, str))
        inside: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                yield from each
                inside += each.values()
            elif isinstance(each, list):
                inside += each
        if not inside:
            return
        level = inside
    raise ValueError(f"expected {_DEEPEST} levels at most, found more")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"expected each name once, found one twice out of {', '.join(found)[:80]!a}")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"expected finite numbers, found {word}")


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"expected whole numbers of {_MOST_DIGITS} digits at most, found one of {len(digits)}")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"expected finite numbers, found {digits[:40]}")
    return number
