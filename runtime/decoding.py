"""Reading and fitting image files in processes of their own, in order, never far ahead of who takes the images."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError, WorkerError
from .images import damage_refused
from .prepare import AUTO, Prepared, Unfitted, Way, begin, fit_all, read
from .preprocessing import Preprocessing

# The other process finds packages where this one does, and none in the folder that it happens to run in.
_START = """import sys
sys.path[:] = sys.argv[2:]
from multiprocessing.connection import Connection
from quillrt.runtime.decoding import serve
serve(Connection(int(sys.argv[1])))"""


@dataclass(frozen=True)
class Decoded:
    """Some files, read.

    Attributes:
        images: their paths, as given.
        fitted: those that could be read, uint8 (N, height, width), in their order.
        ways: in which these were prepared.
        errors: why the others could not, by their place in ``images``.
    """

    images: Sequence[str]
    fitted: NDArray[np.uint8]
    ways: Sequence[Way]
    errors: dict[int, str]


def decode(
    images: Sequence[str],
    recipe: Preprocessing,
    way: str,
    source: Callable[[str], Path | bytes] = Path,
) -> Decoded:
    """Read and prepare ``images`` in the ``way`` of ``prepare.prepare``; ``source`` gives a file, or its content."""
    errors: dict[int, str] = {}

    def readable() -> Iterator[Prepared | Unfitted]:
        for place, image in enumerate(images):
            try:
                with damage_refused(image):
                    begun = begin(read(source(image), recipe, way, image), recipe, way)
            except ImageError as error:
                errors[place] = str(error)
                continue
            yield begun

    fitted, ways = fit_all(readable(), recipe)
    return Decoded(images, fitted, ways, errors)


class Decoders:
    """Processes that read and fit; ``with`` ends them.

    They hold Python, numpy and Pillow, no engine library and nothing of the program's own. They end with this process,
    however that ends, and Ctrl-C is for this one alone: it reaches a terminal's group, and each has a group of its own.

    Args:
        workers: how many.
        recipe: how images are fitted.
        way: how they are prepared, as for ``prepare.prepare``.
    """

    def __init__(self, workers: int, recipe: Preprocessing, way: str = AUTO) -> None:
        self.workers = workers
        # Two threads for each process: it has a batch to begin with as soon as it ended the one before.
        self._threads = ThreadPoolExecutor(2 * workers)
        self._workers: list[_Worker] = []
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(workers):
            ours, theirs = Pipe()
            with theirs:  # so that the end of the process ends the connection
                process = subprocess.Popen(
                    [sys.executable, "-c", _START, str(theirs.fileno()), *sys.path],
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            ours.send((recipe, way))
            self._workers.append(_Worker(process, ours))
        for worker in [*self._workers, *self._workers]:
            self._free.put(worker)

    def in_order(self, batches: Iterable[Sequence[str]]) -> Iterator[Decoded]:
        """Yield what each batch of paths becomes, in order; at most ``window`` batches are taken and not yet yielded.

        Raises:
            WorkerError: a process ended.
        """
        ahead: deque[Future[Decoded]] = deque()
        for batch in batches:
            ahead.append(self._threads.submit(self._decode, batch))
            if len(ahead) == self.window:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    @property
    def window(self) -> int:
        """How many batches are under way at most: two that each process has, and as many that are done and one more."""
        return 4 * self.workers + 1

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.wait()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decode(self, batch: Sequence[str]) -> Decoded:
        worker = self._free.get()
        try:
            return Decoded(batch, *worker.ask(batch))
        except (EOFError, OSError) as error:  # the second also of an answer cut short
            raise WorkerError(
                f"expected {self.workers} processes that read images, but one {_ending(worker.process.wait())} "
                f"at {batch[0]} or one of the {len(batch) - 1:,} after it; see whether memory is short"
            ) from error
        finally:
            self._free.put(worker)


class _Worker:
    """A process, which two threads may ask: one's question waits there while the other's is answered."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection) -> None:
        self.process = process
        self._connection, self._asking, self._hearing = connection, Lock(), Lock()

    def ask(self, batch: Sequence[str]) -> tuple[NDArray[np.uint8], list[Way], dict[int, str]]:
        """Return what ``serve`` answers.

        Raises:
            EOFError, OSError: the process ended.
        """
        with self._asking:  # and until it is this thread's turn to hear, so that answers go in the order of questions
            self._connection.send(batch)
            self._hearing.acquire()
        try:
            fitted, ways, errors = self._connection.recv()
            return fitted, ways, errors
        finally:
            self._hearing.release()


def serve(connection: Connection) -> None:
    """Take recipe and way, then answer each batch of paths with what it becomes, until the other end closes."""
    try:
        recipe, way = connection.recv()
        while True:
            decoded = decode(connection.recv(), recipe, way)
            connection.send((decoded.fitted, decoded.ways, decoded.errors))
    except (EOFError, ConnectionError):
        return


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
