"""SIGTERM ends a program as Ctrl-C does: on its way out it tidies up files and processes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM  # as shells count it


def exit_on_sigterm() -> None:
    """Let SIGTERM raise ``SystemExit`` with ``TERMINATED`` in the main thread, from which this is called."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))


@contextmanager
def signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is left; in another thread than the main one nothing has to wait.

    A library in C++ that is being imported takes the exception that a handler raises for a failure of its own, so that
    the program goes on without the library, or ends by abort.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def keep(number: int, _: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, keep) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if caught:
            signal.raise_signal(caught[0])
