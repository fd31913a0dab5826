"""`quillrt serve` in a process of its own, and sockets to it."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

PATIENCE = 60  # seconds that nothing here takes on a machine that is not stuck


class Server:
    """A running server; what it logs is in ``log``."""

    def __init__(self, process, started, log):
        self.process, self.started, self.log = process, started, log
        self.port = urlsplit(started["url"]).port

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, data):
        """Send ``data`` on a connection of its own and return all that comes until the server closes it."""
        with self.connect() as connection:
            connection.sendall(data)
            return drain(connection)

    def predict(self, image):
        """Return status and parsed answer to an image."""
        head, _, body = self.send(post(image, "Connection: close\r\n")).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def stop(self, number=signal.SIGTERM):
        """Signal the server; return its exit code and what it told at the end."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, json.loads(rest)

    def peak_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


@contextmanager
def running(bundle, folder, *options, program=("-m", "quillrt.cli"), errors=None, **environment):
    """Start a server of ``bundle`` at a free port; end it if it still runs.

    ``program`` is what Python runs in place of the command, ``errors`` a descriptor for stderr in place of ``log``.
    """
    log = folder / "server.log"
    command = [sys.executable, *program, "serve", bundle, "--port", "0", "--json", *map(str, options)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors or file, text=True, env={**os.environ, **environment}
        )
    with process:
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Server(process, json.loads(line), log)
        finally:
            process.kill()


def post(image, headers=""):
    """Return a whole request to predict."""
    return (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(image)}\r\n{headers}\r\n"
    ).encode() + image


def drain(connection):
    """Return all that comes until the other side closes; a reset ends it too."""
    got = b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except ConnectionError:
        pass
    return got
