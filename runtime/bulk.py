"""Recognizing any number of image files: reading, inference and writing at the same time, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .confidence import Confidence
from .decoding import Decoded, Decoders
from .predict import logits_of, predictions
from .progress import Track, no_progress
from .rows import Choices, Row, answered, unreadable
from .session import Session


def recognize_files(
    session: Session,
    confidence: Confidence,
    files: Iterator[str],
    choices: Choices,
    write: Callable[[Sequence[Row]], None],
    workers: int,
    batch_size: int,
    track: Track = no_progress,
    total: int | None = None,
) -> None:
    """Recognize ``files`` and hand their rows to ``write``, in order, ``batch_size`` at a time.

    ``workers`` processes read images, this thread runs the session, and another one makes and writes the rows of the
    batch before. What ``write`` was given it ends, also when this is interrupted. ``total`` is the number of files.

    Raises:
        AccuracyError: a logit is NaN or infinite.
        WorkerError: a process that reads images ended.
    """
    with (
        Decoders(workers, session.spec.preprocessing, choices.preprocessing) as decoders,
        ThreadPoolExecutor(1) as writer,
    ):
        batches = iter(lambda: list(islice(files, batch_size)), [])

        def finish(decoded: Decoded, logits: NDArray[np.float32]) -> int:
            rows = rows_of(decoded, logits, session.spec.labels, choices, confidence)
            write(rows)
            return len(rows)

        def written() -> Iterator[int]:
            before: Future[int] | None = None
            for decoded in decoders.in_order(batches):
                logits = batch_logits(session, decoded.fitted)
                if before is not None:
                    yield before.result()
                before = writer.submit(finish, decoded, logits)
            if before is not None:
                yield before.result()

        for _ in track(_each(written()), "recognizing", total):
            pass


def shared_out(workers: int | None, threads: int | None, cores: int) -> tuple[int, int]:
    """Return how many processes read images and how many threads a query takes, where one or neither is given.

    Reading a small image takes about as long as recognizing it: each gets half of the cores.
    """
    workers = workers or max(1, cores // 2 if threads is None else cores - threads)
    return workers, threads or max(1, cores - workers)


def batch_logits(session: Session, fitted: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (n, K) of fitted images (n, height, width), of none, too; no later query changes them."""
    if len(fitted) == 0:
        return np.empty((0, len(session.spec.labels)), np.float32)
    return logits_of(session, fitted).copy()


def rows_of(
    decoded: Decoded, logits: NDArray[np.float32], labels: Sequence[str], choices: Choices, confidence: Confidence
) -> list[Row]:
    """Return a row for each of ``decoded.images``, in order; ``logits`` are those of ``decoded.fitted``."""
    names = [name for place, name in enumerate(decoded.images) if place not in decoded.errors]
    found = predictions(names, logits, decoded.fitted, labels, choices.top_k, confidence, decoded.ways)
    rows = [answered(prediction, choices) for prediction in found]
    for place, error in sorted(decoded.errors.items()):
        rows.insert(place, unreadable(decoded.images[place], error))
    return rows


def _each(counts: Iterable[int]) -> Iterator[None]:
    """Yield once for each row, for progress counts what passes."""
    for count in counts:
        for _ in range(count):
            yield
