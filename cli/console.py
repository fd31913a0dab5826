"""Where words go: results to stdout, progress and notes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from quillrt.runtime.progress import Phases, Track, no_phases, no_progress

T = TypeVar("T")


def note(message: str, quiet: bool = False) -> None:
    """Write one line to stderr unless ``quiet``."""
    if not quiet:
        sys.stderr.write(message + "\n")


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
    """Give what draws a bar for each phase under way on stderr, if that is a terminal and not ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield no_phases
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done)
            if done >= total:
                progress.remove_task(tasks.pop(phase))

        yield show


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
