"""A headless Chromium, driven over a pair of pipes by its DevTools protocol: no other package is needed."""

import base64
import itertools
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find():
    """Return the path of a Chromium, ``None`` where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing(folder):
    """Give a page of a new browser, which keeps its files in ``folder``."""
    there, ours = os.pipe()
    back, theirs = os.pipe()
    # The protocol is spoken on descriptors 3 and 4 (--remote-debugging-pipe); root may not use the sandbox.
    command = (
        f'exec "$0" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe '
        f'--no-first-run --user-data-dir="$1" about:blank 3<&{there} 4>&{theirs}'
    )
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", command, find(), folder / "profile"], pass_fds=(there, theirs), stdout=log, stderr=log
        )
    os.close(there)
    os.close(theirs)
    with process, os.fdopen(ours, "wb", 0) as to, os.fdopen(back, "rb") as come:
        try:
            yield Page(to, come)
        finally:
            process.kill()


class Page:
    """The browser's page."""

    def __init__(self, to, come):
        self._to, self._come, self._numbers = to, come, itertools.count(1)
        self._session = None
        self.events = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Call a method of the protocol and return its result; events that come meanwhile are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            came = self._next()
            if came.get("id") == number:
                assert "error" not in came, came
                return came["result"]

    def _next(self):
        text = b""
        while not text.endswith(b"\0"):
            piece = self._come.read(1)
            assert piece, "the browser has ended"
            text += piece
        came = json.loads(text[:-1])
        if "method" in came:
            self.events.append(came)
        return came

    def open(self, url):
        """Load a page and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(each["method"] == "Page.loadEventFired" for each in self.events):
            self._next()

    def eval(self, expression):
        """Return what an expression is, once it is no longer pending."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression):
        """Wait until an expression is true, and return it."""
        return self.eval(
            f"new Promise(done => {{ const look = () => {{ const is = {expression}; "
            "is ? done(is) : setTimeout(look, 10); }; look(); })"
        )

    def shoot(self, path):
        """Write a picture of the page."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def complaints(self):
        """Return what the page was refused or failed at."""
        failed = ("Runtime.exceptionThrown", "Network.loadingFailed")
        logged = [each["params"]["entry"] for each in self.events if each["method"] == "Log.entryAdded"]
        return [
            *(each for each in self.events if each["method"] in failed),
            *(entry for entry in logged if entry["level"] in ("warning", "error")),
        ]

    def mouse(self, kind, x, y):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def touch(self, kind, *points):
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])
