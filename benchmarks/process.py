"""An object in a process of its own, so that a crash, a hang or a library's noise over there stays over there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from quillrt.runtime.errors import BackendUnavailable

_GOODBYE_S = 5.0
_TIDYING_S = 2.0


class NoAnswer(BackendUnavailable):
    """A process did not answer in the time it had; it was ended."""


class Remote:
    """An instance of ``target`` (``module:Class``) in a new process; what that prints goes to the end of ``log``.

    Attributes:
        reason: why it cannot be asked any more, once its process died or hung.
    """

    def __init__(self, target: str, log: Path, title: str, threads: int | None = None) -> None:
        self.reason: str | None = None
        self._log = log
        self._connection, theirs = Pipe()
        environment = dict(os.environ)
        if threads is not None:  # OpenMP reads this when it loads, before a session could set it
            environment["OMP_NUM_THREADS"] = str(threads)
        with theirs, log.open("ab") as output:
            output.write(f"== {title}\n".encode())
            output.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "quillrt.benchmarks.remote", str(theirs.fileno()), target],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def ask(self, timeout_s: float, name: str, *args: Any) -> Any:
        """Return what the method ``name`` returns over there.

        Raises:
            NoAnswer: it did not answer within ``timeout_s``.
            BackendUnavailable: it raised or died, or had done so before.
        """
        if self.reason is not None:
            raise BackendUnavailable(self.reason)
        try:
            self._connection.send((name, args))
            if not self._connection.poll(timeout_s):
                self._lose(f"no answer to {name!r} within {timeout_s:.3g} s", NoAnswer)
            worked, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._lose(f"its process {self._ending()} in {name!r}")
        if not worked:
            raise BackendUnavailable(answer)
        return answer

    def close(self) -> None:
        """End the process: by closing the connection, for which a lost one gets no time; by SIGTERM; by force."""
        self._connection.close()
        process = self._process
        ends: tuple[tuple[Callable[[], None], float | None], ...] = (
            (lambda: None, 0 if self.reason else _GOODBYE_S),
            (process.terminate, _TIDYING_S),  # its temporary files and its own processes
            (process.kill, None),
        )
        for end, patience_s in ends:
            end()
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
                return

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lose(self, reason: str, kind: type[BackendUnavailable] = BackendUnavailable) -> NoReturn:
        self.reason = f"{reason}; {self._log.name} has what it printed"
        self.close()
        raise kind(self.reason)

    def _ending(self) -> str:
        try:
            code = self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
