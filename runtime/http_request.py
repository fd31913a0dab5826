"""What a request to predict may hold, and what it is told when it holds something else."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from .http_front import Receive
from .strict_json import read_json

T = TypeVar("T")
_LEAST_RATE = 20_000  # bytes a second: who sends faster has the time it takes
_READ_ON = 10  # times what a body may have: so much of a larger one is read and forgotten
_FORM = '{"image": "BASE64"} or {"images": ["BASE64", …]}'


class Refusal(Exception):  # noqa: N818 - it is an answer, not a mistake
    """A request is answered by a status of 400 or above and one line."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


class ClientGone(Exception):  # noqa: N818 - nobody is left to be told
    """The client hung up before its request was complete."""


def busy(message: str) -> Refusal:
    """Return the refusal of a request that may come again in a second."""
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, {"Retry-After": "1"})


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        max_bytes: of one request's body.
        max_held_bytes: of all bodies held at a time.
        max_images: in one request.
        max_pixels: of one image.
        body_seconds: a body has this long to come, and longer only while it goes on coming fast.
    """

    max_bytes: int = 10_000_000
    max_held_bytes: int = 64_000_000
    max_images: int = 64
    max_pixels: int = 16_000_000
    body_seconds: float = 10.0


class Bodies:
    """Reads the bodies of requests, and knows how much all of them hold."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Give the whole body of a request; it counts as held inside the ``with``.

        Raises:
            Refusal: it is encoded, too large, too slow, or all bodies together are too large.
            ClientGone: the client hung up.
        """
        coding = headers.get("content-encoding", "identity")
        if coding != "identity":
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"expected a body as it is, found Content-Encoding {coding!r}; leave the encoding out",
            )
        chunks: list[bytes] = []
        size = forgotten = 0
        declared = headers.get("content-length", "")
        too_large = declared.isdecimal() and int(declared) > self._limits.max_bytes
        if too_large and "100-continue" in headers.get("expect", "").lower():
            raise self._too_large({"Connection": "close"})  # it has not begun to send, and need not
        try:
            async for chunk in self._chunks(receive):
                if too_large:  # read on and forget: who is cut off while sending would not see the answer
                    forgotten += len(chunk)
                    if forgotten > _READ_ON * self._limits.max_bytes:
                        raise self._too_large({"Connection": "close"})
                    continue
                size += len(chunk)
                self._held += len(chunk)
                chunks.append(chunk)
                if size > self._limits.max_bytes:
                    too_large = True
                    chunks.clear()
                elif self._held > self._limits.max_held_bytes:
                    raise busy(
                        f"expected at most {self._limits.max_held_bytes:,} bytes of all requests at a time, "
                        "found more; send it again after a second"
                    )
            if too_large:
                raise self._too_large()
            yield b"".join(chunks)
        finally:
            self._held -= size

    async def _chunks(self, receive: Receive) -> AsyncIterator[bytes]:
        """Yield what comes until the body is whole."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.body_seconds
        while True:
            try:
                message = await asyncio.wait_for(receive(), deadline - loop.time())
            except (asyncio.TimeoutError, TimeoutError):
                raise Refusal(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"expected the whole body within {self._limits.body_seconds:g} s or at {_LEAST_RATE:,} bytes a "
                    "second, found a slower one; send it again",
                    {"Connection": "close"},
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            # A burst earns no more than body_seconds from now on, or some could hold what all bodies may for minutes.
            deadline = min(deadline + len(chunk) / _LEAST_RATE, loop.time() + self._limits.body_seconds)
            yield chunk
            if not message.get("more_body", False):
                return

    def _too_large(self, headers: Mapping[str, str] | None = None) -> Refusal:
        return Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"expected a body of at most {self._limits.max_bytes:,} bytes, found a larger one; shrink the image",
            headers,
        )


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what ``work`` does for a client whose whole request has come; it is cancelled if the client hangs up.

    Raises:
        ClientGone: the client hung up.
        Exception: what ``work`` raises.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def images_of(content_type: str, body: bytes, max_images: int) -> list[bytes]:
    """Return the image files in a body: itself, or those that JSON holds in base64.

    Raises:
        Refusal: it is of another kind, empty, or JSON of another form.
    """
    kind = content_type.partition(";")[0].strip().lower()
    is_json = kind == "application/json"
    if not (is_json or kind in ("", "application/octet-stream") or kind.startswith("image/")):
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"expected an image (Content-Type: image/png, say) or application/json, found {kind!r}; "
            "with curl give -H 'Content-Type: image/png'",
        )
    if not body:
        raise Refusal(HTTPStatus.BAD_REQUEST, "expected an image, found an empty body; send a PNG or JPEG")
    if not is_json:
        return [body]
    try:
        value = read_json(body, len(body))  # Limits.max_bytes has bounded it
    except ValueError as error:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, f"expected JSON, but the body cannot be read: {error}; send {_FORM}"
        ) from error
    images = _listed(value)
    if not 1 <= len(images) <= max_images:
        raise Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE if images else HTTPStatus.UNPROCESSABLE_ENTITY,
            f"expected 1 to {max_images} images in a request, found {len(images)}; send several requests",
        )
    return [_decoded(image, number) for number, image in enumerate(images)]


def _listed(value: object) -> list[object]:
    """Return what stands for the images in parsed JSON."""
    if isinstance(value, dict):
        if set(value) == {"image"}:
            return [value["image"]]
        if set(value) == {"images"} and isinstance(value["images"], list):
            return value["images"]
    found = f"keys {', '.join(map(repr, value)) or 'none'}" if isinstance(value, dict) else type(value).__name__
    raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"expected {_FORM}, found {found[:200]}")


def _decoded(image: object, number: int) -> bytes:
    if not isinstance(image, str):
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"expected a string of base64 as image {number}, found {type(image).__name__}",
        )
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"expected base64 as image {number}, but it is none: {error}; send the file's bytes in base64, "
            "without a data: prefix or line breaks",
        ) from error
