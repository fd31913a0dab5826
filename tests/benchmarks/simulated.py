"""A machine whose time only passes when a session says so: benchmarks on it are exact, and over at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from quillrt.benchmarks.contestants import Contestant
from quillrt.runtime.errors import BackendUnavailable, QuillError

MS = 1_000_000


class Clock:
    """Stands for ``perf_counter_ns`` and ``sleep``; each look at it takes 100 ns.

    ``afterwards`` passes behind the next look: what a session does once it has answered.
    """

    def __init__(self):
        self.now = 0
        self.afterwards = 0

    def __call__(self):
        self.now += 100
        seen = self.now
        self.now += self.afterwards
        self.afterwards = 0
        return seen

    def sleep(self, seconds):
        self.now += int(seconds * 1e9)


class Near:
    """Stands for ``Remote``: the worker is in this process."""

    reason = None

    def __init__(self, target, log, title, threads=None):
        module, _, name = target.partition(":")
        self._worker = getattr(import_module(module), name)()

    def ask(self, timeout_s, name, *args):
        try:
            return getattr(self._worker, name)(*args)
        except QuillError as error:
            raise BackendUnavailable(str(error)) from error

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class Session:
    """Answers as ``quadrants`` does, changed by ``spoil``; ``takes(n, batch)`` are the ns of its ``n``-th query."""

    def __init__(self, clock, takes, spoil=lambda logits: logits):
        self.clock, self.takes, self.spoil = clock, takes, spoil
        self.queries = 0

    def run(self, batch):
        self.queries += 1
        self.clock.now += int(self.takes(self.queries, batch))
        return self.spoil(4 * batch.reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4).astype(np.float32))


@dataclass(frozen=True)
class Planted(Contestant):
    """A contestant with a session of ours."""

    session: Callable[[], Session] = field(default=lambda: None)

    def open(self, options):
        return self.session()
