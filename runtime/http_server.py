"""The server's sockets: uvicorn with limits on connections and time, and a stop that answers what was accepted."""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from .errors import BackendUnavailable, ConfigError, QuillError
from .http_front import Application, Tally
from .http_token import address_of

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

_PACKAGES = ("uvicorn", "starlette", "prometheus_client")
_LINGER_SECONDS = 0.5  # after a stop, requests that are on their way still find their connection open
_CUT_SECONDS = 2.0  # requests that a stop has cut off end by then, if ever
_OTHER_FILES = 64  # descriptors besides connections
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 53\r\n\r\nexpected fewer connections; come again after a second"
)


class ServerFailed(QuillError):  # noqa: N818 - as those of errors.py whose names say more so
    """The server could not end as it should: threads of it may hang, so end the process and wait for none of them."""


@dataclass(frozen=True)
class Connections:
    """Limits on connections.

    Attributes:
        max_open: at a time; one more is told to come again.
        head_seconds: a request's head, and a body that nobody reads, have this long to come.
        idle_seconds: a connection without a request stays open this long.
        stuck_seconds: a client that takes nothing of its answer is cut off after this.
        stop_seconds: how long a stop waits for what was accepted.
    """

    max_open: int = 512
    head_seconds: float = 10.0
    idle_seconds: int = 60
    stuck_seconds: int = 20
    stop_seconds: int = 60


def check_installed() -> None:
    """Raise unless the packages are there.

    Raises:
        BackendUnavailable: one is missing; the message names the extra.
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise BackendUnavailable(f"serve needs the package {package}: pip install 'quillrt[serve]'")


def bind(host: str, port: int, token: str | None) -> socket.socket:
    """Return a socket on ``host`` and ``port``, which does not listen yet.

    Raises:
        ConfigError: it cannot be had, or the network could ask there without a token.
    """
    family, address = address_of(host, token)
    with _in_one_line(host, port):
        # asyncio sets TCP_NODELAY only where the protocol is told; else answers wait 40 ms for a delayed ACK.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
        except OSError:
            bound.close()
            raise
        return bound


def url_of(bound: socket.socket) -> str:
    """Return the address at which a browser finds ``bound``."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    app: Application, bound: socket.socket, tally: Tally, limits: Connections, started: Callable[[], None]
) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish what was accepted.

    Raises:
        ConfigError: another program listens there by now, or so many connections may not be open here.
        ServerFailed: the device failed, or something accepted could not be answered in time.
    """
    import uvicorn

    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limits.max_open + _OTHER_FILES > allowed != resource.RLIM_INFINITY:
        raise ConfigError(
            f"expected at most {allowed - _OTHER_FILES} connections, for {allowed} open files are allowed here, found "
            f"{limits.max_open}; lower --max-connections or raise ulimit -n"
        )

    class Server(uvicorn.Server):
        """Uvicorn's, with a stop that loses nothing, has an end, and is not taken for being killed."""

        was_cut = False

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

        async def on_tick(self, counter: int) -> bool:
            return bool(tally.failure) or await super().on_tick(counter)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            tally.stopping = True  # each answer closes its connection from now on
            for server in self.servers:
                server.close()
            deadline = asyncio.get_running_loop().time() + _LINGER_SECONDS
            while self.server_state.connections and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.01)
            ending = asyncio.ensure_future(super().shutdown(sockets))
            deadline += limits.stop_seconds + _CUT_SECONDS
            while not ending.done() and not self.force_exit and asyncio.get_running_loop().time() < deadline:
                await asyncio.wait([ending], timeout=0.1)
            self.was_cut = self.force_exit or not ending.done()
            if ending.done():
                ending.result()
            ending.cancel()

    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=limits.stop_seconds,
    )
    host, port = bound.getsockname()[:2]
    with _in_one_line(host, port):
        bound.listen(config.backlog)
    server = Server(config)
    server.run(sockets=[bound])
    if tally.failure:
        raise ServerFailed(tally.failure)
    if server.was_cut or tally.answered < tally.accepted:
        raise ServerFailed(
            f"expected to answer all {tally.accepted:,} requests accepted and the engine to end, answered "
            f"{tally.answered:,} in the {limits.stop_seconds} s after the stop, or before a second Ctrl-C"
        )


def _protocol(limits: Connections) -> type[H11Protocol]:
    """Return uvicorn's HTTP over h11 with ``limits``, and answers for clients that have closed their sending half."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Limited(H11Protocol):
        """One connection."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            peer: Any = transport.get_extra_info("socket")
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.stuck_seconds * 1000)
            if len(self.connections) > limits.max_open:
                transport.write(_BUSY)
                transport.close()
            self._time_head()

        def data_received(self, data: bytes) -> None:
            if not self.transport.is_closing():
                super().data_received(data)
                self._time_head()

        def eof_received(self) -> bool:  # type: ignore[override]
            is_asking = self._is_answering() and not self.cycle.more_body
            if is_asking:
                self.cycle.keep_alive = False
            return is_asking  # true: the sending half stays open

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _time_head(self) -> None:
            """Give what comes until the next request is whole its time: all of it, not each piece."""
            if self._is_answering():
                self._stop_timer()
            elif self._timer is None:
                self._timer = self.loop.call_later(limits.head_seconds, self.transport.abort)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Limited


@contextmanager
def _in_one_line(host: str, port: int) -> Iterator[None]:
    """Say what to do about a socket that cannot be had."""
    try:
        yield
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        where = f"port {port} of {host}"
        if number == errno.EADDRINUSE:
            raise ConfigError(
                f"expected {where} to be free, found another program there; give another --port"
            ) from error
        if number == errno.EACCES:
            raise ConfigError(
                f"expected {where} to be allowed, but ports below 1024 are for root; give a --port from 1024 on"
            ) from error
        raise ConfigError(f"expected {where} to be had: {error}; give another --host or --port") from error
