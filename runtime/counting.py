"""A number with what it counts."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``1 row``, ``0 rows``, ``1,024 rows``: of a ``noun`` whose plural takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
