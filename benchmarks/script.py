"""How the scripts of this folder end: a foreseen error is one line and exit code 1, SIGTERM leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import typer

from quillrt.runtime.errors import QuillError
from quillrt.runtime.termination import exit_on_sigterm


def run(main: Callable[..., None]) -> None:
    """Run ``main`` as a command line.

    Raises:
        SystemExit: always, at the end; with a line of text for a foreseen error.
    """
    exit_on_sigterm()
    try:
        typer.run(main)
    except (QuillError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
