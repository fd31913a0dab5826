"""How long work reports its progress without knowing who shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Passes items through and reports how far it got; the command line gives one that draws a bar on stderr."""

    def __call__(self, items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
        """Yield ``items``; ``total`` is their number where ``len`` does not tell."""
        ...


def no_progress(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """Pass ``items`` through and show nothing: the default for programs."""
    return items


class Phases(Protocol):
    """Hears how far each phase of some work got; phases may lie inside one another and come from several threads."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` steps of ``phase`` are done; all of them: the phase is over."""
        ...


def no_phases(phase: str, done: int, total: int) -> None:
    """Show nothing: the default for programs."""
