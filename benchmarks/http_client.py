"""A client that keeps one connection to a server on this machine and knows what became of each request."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any


class Refused(Exception):  # noqa: N818 - servers that stop do so
    """Nothing listens there (any more)."""


class Lost(Exception):  # noqa: N818 - it is what is counted
    """A request was sent, and the connection ended before its answer was whole."""


@dataclass(frozen=True)
class Answer:
    """Status, headers by their names in small letters, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body holds."""
        return json.loads(self.body)


class Client:
    """One connection, opened at the first request and again after each that the server closed."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, target: str, body: bytes, content_type: str, headers: str = "") -> Answer:
        """Send a request and return its answer; ``headers`` are whole lines.

        Raises:
            Refused: no connection can be had.
            Lost: it ended before the answer was whole.
        """
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        )
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(self._host, self._port)
            except OSError as error:
                raise Refused(str(error)) from error
        reader, writer = self._streams
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await read_answer(reader)
        except (OSError, EOFError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Lost(str(error)) from error
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Return the next answer on a connection.

    Raises:
        IncompleteReadError: the connection ended before it was whole.
        OSError: the connection was cut.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(head[0].split()[1]), headers, body)
