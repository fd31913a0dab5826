"""SIGTERM ends a program as Ctrl-C does: on its way out it tidies up files and processes."""

from __future__ import annotations

import signal
import sys

TERMINATED = 128 + signal.SIGTERM  # as shells count it


def exit_on_sigterm() -> None:
    """Let SIGTERM raise ``SystemExit`` with ``TERMINATED`` in the main thread, from which this is called."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
