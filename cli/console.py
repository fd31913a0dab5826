"""Where words go: results to stdout, progress and notes to stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from quillrt.runtime.progress import Phases, Track, no_phases, no_progress

T = TypeVar("T")


def note(message: str, quiet: bool = False) -> None:
    """Write one line to stderr unless ``quiet``; the work goes on where stderr takes none, as on a full disk."""
    if not quiet:
        with suppress(OSError):
            sys.stderr.write(message + "\n")


def error_line(message: str) -> str:
    """Return the one line that stderr gets of an error; what a hostile file brings in does not steer the terminal."""
    line = " ".join(message.split())
    return f"quillrt: error: {''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in line)}"


def shown(name: str) -> str:
    """Return a file's name with escapes for what would steer the terminal or break the line; its bytes stay."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda c: c[0].encode("unicode_escape").decode(), name)


def print_json(value: Any) -> None:
    """Write ``value`` to stdout as indented JSON; NaN is refused, for JSON has none."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Draw a table on stdout; a pipe gets it 160 columns wide, so that no cell is cut at 80."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False).print(table)


def tracker(quiet: bool) -> Track:
    """Return what draws a bar with rate and time left on stderr, if that is a terminal and not ``quiet``."""
    return no_progress if quiet or not sys.stderr.isatty() else _bar


@contextmanager
def phase_bars(quiet: bool) -> Iterator[Phases]:
    """Give what draws a bar for each phase under way on stderr, if that is a terminal and not ``quiet``.

    Nothing is drawn, and rich is not loaded, before the first phase: most runs have none.
    """
    if quiet or not sys.stderr.isatty():
        yield no_phases
        return
    with ExitStack() as drawn:
        yield _PhaseBars(drawn)


class _PhaseBars:
    """A bar for each phase under way, as long as ``drawn`` is open."""

    def __init__(self, drawn: ExitStack) -> None:
        self._drawn = drawn
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bars = self._drawn.enter_context(Progress(console=Console(stderr=True), transient=True))
        if done >= total:
            if phase in self._tasks:
                self._bars.remove_task(self._tasks.pop(phase))
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total)
        self._bars.update(self._tasks[phase], completed=done)


def _bar(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=label)
