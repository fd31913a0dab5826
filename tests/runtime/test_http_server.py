"""The running server and clients of every kind; that under load is in tests/benchmarks/test_serving.py."""

import asyncio
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.http_server import _in_one_line, bind, url_of
from quillrt.runtime.precision import Precision

from .running_server import PATIENCE, drain, post, running

for package in ("onnxruntime", "uvicorn", "starlette", "prometheus_client"):
    pytest.importorskip(package)

MOST = 25  # connections
BROKEN = Path(__file__).with_name("broken_device.py")


@pytest.fixture(scope="module")
def bundle(quadrants, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "quadrants.quill"
    entry = entry_for(quadrants.onnx, "model.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",))
    write_bundle(path, quadrants.spec, {"kind": "onnx"}, [entry])
    return path


@pytest.fixture(scope="module")
def server(bundle, tmp_path_factory):
    """One for all tests: none may hurt it."""
    limits = ("--receive-seconds", 1, "--max-connections", MOST, "--max-bytes", 100_000)
    with running(bundle, tmp_path_factory.mktemp("server"), *limits) as server:
        yield server
        assert server.stop(signal.SIGINT)[0] == 0


@pytest.fixture
def png(draw, tmp_path):
    return lambda k: draw(tmp_path / f"{k}.png", k).read_bytes()


@pytest.fixture(autouse=True)
def it_stands(server, png):
    """After each test the server still answers rightly."""
    yield
    status, value = server.predict(png(2))
    assert (status, value["predictions"][0]["answer"]) == (200, "sw")


def drip(connections):
    """Send a byte now and then on each connection until the server has closed it; return what came on each."""
    got = dict.fromkeys(connections, b"")
    is_open = set(connections)
    while is_open:
        readable, _, _ = select.select(is_open, [], [], 0.1)
        for connection in list(is_open):
            try:
                if connection in readable:
                    piece = connection.recv(65536)
                    got[connection] += piece
                    if not piece:
                        is_open.remove(connection)
                        continue
                connection.send(b"x")
            except ConnectionError:
                is_open.remove(connection)
    return [got[connection] for connection in connections]


def test_slow_clients_of_each_kind_are_cut_off(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n"
    begun = [b"", b"POST /predict HTTP/1.1\r\nX-Slow: ", head, head.replace(b"predict", b"nowhere")]
    connections = [server.connect() for _ in begun]
    silent = server.connect()
    for connection, data in zip(connections, begun, strict=True):
        connection.sendall(data)
    nothing, no_head, slow_body, unread_body = drip(connections)
    assert (nothing, no_head) == (b"", b"")
    assert slow_body.startswith(b"HTTP/1.1 408 ")
    assert b"expected the whole body within 1 s" in slow_body
    assert unread_body.startswith(b"HTTP/1.1 404 ")
    assert drain(silent) == b""
    for connection in (*connections, silent):
        connection.close()


def send_zeros(connection, framing, pieces):
    """Begin a request and send ``pieces`` times 100,000 bytes of its body."""
    connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + framing + b"\r\n\r\n")
    piece = bytes(100_000)
    for _ in range(pieces):
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if b"chunked" in framing else piece)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_nine_times_too_large_is_told(server, chunked):
    with server.connect() as connection:
        send_zeros(connection, b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 900000", 9)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        answer = drain(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"expected a body of at most 100,000 bytes" in answer


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 100000000"])
def test_a_body_of_100_megabytes_is_not_kept_and_not_read_to_its_end(server, framing):
    before = server.peak_bytes()
    with server.connect() as connection, pytest.raises(ConnectionError):
        send_zeros(connection, framing, 1000)
    assert server.peak_bytes() - before < 30_000_000


@pytest.mark.parametrize(
    "garbage",
    [
        os.urandom(3000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client that wants TLS
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
    ids=["random", "tls", "no host", "negative length", "bad chunk", "large head"],
)
def test_garbage_is_answered_by_400_or_by_hanging_up(server, garbage):
    with server.connect() as connection:
        try:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # it has hung up already
            return
        answer = drain(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_has_closed_its_sending_half_gets_its_answer(server, png):
    with server.connect() as connection:
        connection.sendall(post(png(1)))
        connection.shutdown(socket.SHUT_WR)
        answer = drain(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"answer":"ne"' in answer


def test_clients_that_are_killed_leave_nothing_behind(server, png):
    request = post(png(0))
    for end in (10, len(request) - 5, len(request)) * 10:
        connection = server.connect()
        connection.sendall(request[:end])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close resets
        connection.close()
    deadline = time.monotonic() + PATIENCE
    while b"quillrt_images_waiting 0.0" not in (found := server.send(METRICS)):
        assert time.monotonic() < deadline, found


METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_requests_sent_at_once_on_one_connection_are_answered_in_their_order(server, png):
    answers = server.send(post(png(3)) + post(png(0)) + post(png(1), "Connection: close\r\n"))
    assert [part[:2] for part in answers.split(b'"answer":"')[1:]] == [b"se", b"nw", b"ne"]


def test_one_connection_more_than_allowed_is_told_to_come_again(server):
    connections = [server.connect() for _ in range(MOST)]
    answer = server.send(b"")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + PATIENCE
    while not server.send(METRICS).startswith(b"HTTP/1.1 200 "):
        assert time.monotonic() < deadline


def test_a_stop_answers_what_has_come_and_closes_idle_connections(bundle, png, tmp_path):
    with running(bundle, tmp_path, "--token-file", token(tmp_path), "--quiet") as server:
        with server.connect() as idle, server.connect() as asking:
            for connection in (idle, asking):
                connection.sendall(post(png(1), "Authorization: Bearer 0123456789abcdef\r\n"))
                assert whole_answer(connection).startswith(b"HTTP/1.1 200 ")
            asking.sendall(post(png(3), "Authorization: Bearer 0123456789abcdef\r\n"))
            code, told = server.stop()
            answer = drain(asking)
            assert drain(idle) == b""
        assert (code, told) == (0, {"accepted": 3, "answered": 3})
        assert b'"answer":"se"' in answer
        assert server.log.read_text() == ""


def test_a_device_that_fails_ends_the_server_in_one_line(bundle, png, tmp_path):
    with broken(bundle, tmp_path, "fails", "--quiet") as server:
        status, value = server.predict(png(0))
        assert (status, value["error"]) == (503, "CUDA failed: an illegal address")
        assert server.process.wait(PATIENCE) == 1
    assert server.log.read_text() == "quillrt: error: CUDA failed: an illegal address\n"


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_server_whose_engine_hangs_can_be_stopped(bundle, png, tmp_path, signals):
    patience = 1 if len(signals) == 1 else 600
    options = ("--quiet", "--stop-seconds", patience)
    with broken(bundle, tmp_path, "hangs", *options) as server, server.connect() as asking:
        asking.sendall(post(png(0)))
        while b"quillrt_images_waiting 1.0" not in server.send(METRICS):
            pass
        for number in signals:
            server.process.send_signal(number)
            time.sleep(0.3)  # two at once would be one
        assert server.process.wait(PATIENCE) == 1
    told = server.log.read_text()
    assert told.startswith("quillrt: error: expected to answer all 1 requests accepted")
    assert told.count("\n") == 1


@contextmanager
def broken(bundle, folder, how, *options):
    """Start a server whose device then ``fails`` or ``hangs``."""
    switch = folder / "switch"
    with running(bundle, folder, *options, program=(BROKEN,), BROKEN=str(switch)) as server:
        switch.write_text(how)
        yield server


def test_a_log_that_nobody_reads_holds_up_no_answer_and_no_stop(bundle, tmp_path):
    unread, errors = os.pipe()
    fcntl.fcntl(errors, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with running(bundle, tmp_path, errors=errors) as server:
            with server.connect() as asking:
                for _ in range(200):  # of 70 bytes, where the pipe takes 4,096
                    asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert whole_answer(asking, b'{"alive":true}').startswith(b"HTTP/1.1 200 ")
            assert server.stop()[0] == 0
    finally:
        os.close(unread)
        os.close(errors)


def whole_answer(connection, end=b"]}"):
    """Return the next answer on a connection that stays open."""
    got = b""
    while not got.endswith(end):
        piece = connection.recv(65536)
        assert piece
        got += piece
    return got


def token(folder):
    path = folder / "token"
    path.write_text("0123456789abcdef\n")
    return path


def test_each_request_is_logged_without_its_query(server):
    server.send(b"GET /healthz?secret=1 HTTP/1.1\r\nHost: x\r\nX-Request-ID: here-1\r\nConnection: close\r\n\r\n")
    deadline = time.monotonic() + PATIENCE
    while " here-1\n" not in server.log.read_text():
        assert time.monotonic() < deadline
    (line,) = (line for line in server.log.read_text().splitlines() if line.endswith(" here-1"))
    assert " 127.0.0.1 GET /healthz 200 " in line
    assert "secret" not in server.log.read_text()


def test_the_line_at_the_start_tells_what_runs(server, bundle):
    assert server.started == {
        "url": f"http://127.0.0.1:{server.port}/",
        "bundle": str(bundle),
        "file": "model.onnx",
        "backend": "onnxruntime-cpu",
    }
    _, _, body = server.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")
    assert json.loads(body) == {"ready": True}


def test_answers_do_not_wait_for_acknowledgements():
    async def play():
        with bind("127.0.0.1", 0, None) as bound:
            set_to = asyncio.get_running_loop().create_future()

            def accepted(reader, writer):
                peer = writer.get_extra_info("socket")
                set_to.set_result(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                writer.close()

            async with await asyncio.start_server(accepted, sock=bound):
                _, writer = await asyncio.open_connection(*bound.getsockname())
                writer.close()
                return await set_to

    assert asyncio.run(play())


def test_an_address_of_ipv6_is_written_as_browsers_want_it():
    try:
        bound = bind("::1", 0, None)
    except ConfigError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with bound:
        assert url_of(bound) == f"http://[::1]:{bound.getsockname()[1]}/"


def test_a_port_for_root_is_told_in_one_line():
    told = "ports below 1024 are for root; give a --port from 1024 on"
    with pytest.raises(ConfigError, match=told), _in_one_line("127.0.0.1", 80):
        raise PermissionError(13, "Permission denied")
