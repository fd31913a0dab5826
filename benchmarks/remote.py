"""The other side of ``process.Remote``: `python -m quillrt.benchmarks.remote CONNECTION MODULE:CLASS`.

CONNECTION is the number of an inherited socket, so that stdout and stderr stay free for whatever the libraries print.
Each message is a method's name and its arguments; each answer is a pair of "it worked" and the result or the reason.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from quillrt.runtime.errors import QuillError
from quillrt.runtime.termination import exit_on_sigterm


def serve(connection: Connection, target: Any) -> None:
    """Call the methods of ``target`` that messages name, until the other end closes."""
    while True:
        try:
            name, args = connection.recv()
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            answer = True, getattr(target, name)(*args)
        except QuillError as error:
            answer = False, str(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises is an answer, and the log has its story
            traceback.print_exc()
            answer = False, " ".join(f"{type(error).__name__}: {error}".split())
        connection.send(answer)


if __name__ == "__main__":
    exit_on_sigterm()
    try:
        module, _, name = sys.argv[2].partition(":")
        serve(Connection(int(sys.argv[1])), getattr(import_module(module), name)())
    except KeyboardInterrupt:  # Ctrl-C reaches the whole process group; the parent says it once
        sys.exit(130)
