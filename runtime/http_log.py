"""The server's log: lines that a thread writes, so that a reader who is slow, or gone, holds up no answer."""

from __future__ import annotations

import os
from contextlib import suppress
from queue import Full, Queue
from threading import Thread

_MOST_LINES = 1000  # that wait to be written


class Log:
    """Lines on their way to a file descriptor; where too many wait, further ones are dropped and counted."""

    def __init__(self, descriptor: int, most_lines: int = _MOST_LINES) -> None:
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(most_lines)
        self._dropped = 0
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def __call__(self, line: str) -> None:
        """Write ``line``, soon; never waits."""
        if self._dropped:
            line = f"{self._dropped:,} lines were dropped here, for nobody read them\n{line}"
        try:
            self._lines.put_nowait(line)
            self._dropped = 0
        except Full:
            self._dropped += 1

    def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for ``seconds`` at most."""
        with suppress(Full):
            self._lines.put(None, timeout=seconds)
        self._thread.join(seconds)

    def _write(self) -> None:
        """Write line by line, not over ``sys.stderr``: a thread stuck in there would stop the interpreter's end."""
        while (line := self._lines.get()) is not None:
            rest = line.encode(errors="backslashreplace") + b"\n"
            with suppress(OSError):  # a full disk, or a reader that has gone; the next line may do
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
