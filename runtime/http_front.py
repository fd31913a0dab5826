"""What every request to the server passes: its id, the clock, the log, and the order to hang up when it stops."""

from __future__ import annotations

import random
import re
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import QuillError
from .http_metrics import Metrics

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ID, ACCEPTED = "quillrt.id", "quillrt.accepted"  # keys of a request's scope
_ids = random.Random()  # noqa: S311 - names, no secrets: the system's source would let go of the GIL each time
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass
class Tally:
    """What becomes of a server.

    Attributes:
        accepted: requests to predict that came whole.
        answered: how many of them were answered.
        stopping: no more are taken.
        failure: what the device met, if it failed: the server must end.
    """

    accepted: int = 0
    answered: int = 0
    stopping: bool = False
    failure: str = ""

    def fail(self, error: QuillError) -> None:
        """Take note that the device failed."""
        self.failure, self.stopping = str(error), True


class Front:
    """An ASGI application before another."""

    def __init__(self, app: Application, metrics: Metrics, tally: Tally, log: Callable[[str], None]) -> None:
        self._app, self._metrics, self._tally, self._log = app, metrics, tally, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request be answered, or a lifespan run."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        scope[ID] = given.decode() if _GIVEN_ID.fullmatch(given) else f"{_ids.getrandbits(64):016x}"
        code = 0

        async def answer(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers(scope[ID])]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - it was answered by 500; a bug must not end the server
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = " ".join(f"{type(error).__name__}: {error}".split())
            self._log(f"{scope[ID]} failed at {where.name}, line {where.lineno}: {told}")
        finally:
            self._tally.answered += bool(code and scope.get(ACCEPTED))
            seconds = time.perf_counter() - started
            self._metrics.request(scope["path"] if "endpoint" in scope else "other", code, seconds)
            client = (scope.get("client") or ["-"])[0]
            path = scope["raw_path"].decode("ascii", "backslashreplace")  # as it came; what follows a ? is not logged
            self._log(f"{client} {scope['method']} {path} {code or '-'} {seconds * 1000:.1f} ms {scope[ID]}")

    def _headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """Return what each answer has besides its own headers."""
        headers = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        return [*headers, (b"connection", b"close")] if self._tally.stopping else headers
