"""Many requests, one engine: items that come one by one are answered in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from .errors import BackendUnavailable, ConfigError

A = TypeVar("A")  # what comes
P = TypeVar("P")  # what is prepared of it
R = TypeVar("R")  # what is answered


class QueueFull(Exception):  # noqa: N818 - it is an answer, not a mistake
    """There is no room for these items now."""


@dataclass(frozen=True)
class Batching:
    """How batches form.

    Attributes:
        max_batch: items the engine gets at once, at most.
        max_delay_ms: how long the first of a batch waits, while the engine is free, for others that are still being
            prepared. Nothing waits for what has not come yet: under load, batches form while the engine is busy.
        max_waiting: items accepted and not yet answered, at most.
        workers: threads that prepare.
    """

    max_batch: int = 64
    max_delay_ms: float = 2.0
    max_waiting: int = 1024
    workers: int = 2

    def __post_init__(self) -> None:
        if min(self.max_batch, self.max_waiting, self.workers) < 1 or self.max_delay_ms < 0:
            raise ConfigError(f"expected batches, a queue and threads of 1 or more and no delay below 0, found {self}")


@dataclass
class _Waiting(Generic[P, R]):
    """An item that is prepared, when it was so by the loop's clock, and who waits for its answer."""

    item: P
    since: float
    answer: asyncio.Future[R]


class Batcher(Generic[A, P, R]):
    """Prepares items in a pool of threads, answers them in batches by one; ``async with`` opens and drains it.

    All methods belong to one event loop. An item accepted is answered once: by its own result, or by the error that it
    met. Items run in the order in which they were ready. Once the device has failed nothing runs any more.
    """

    def __init__(
        self,
        prepare: Callable[[A], P],
        run: Callable[[list[P]], Sequence[R]],
        batching: Batching = Batching(),
        watch: Callable[[int, float], None] = lambda items, seconds: None,
        failed: Callable[[BackendUnavailable], None] = lambda error: None,
    ) -> None:
        """Say how items are prepared and run.

        Args:
            prepare: called by several threads at a time.
            run: called by one thread; returns as many results as it is given items.
            batching: how batches form.
            watch: is told the size of each batch and how long ``run`` took.
            failed: is told once that the device failed.
        """
        self._prepare, self._run, self._batching, self._watch = prepare, run, batching, watch
        self._failed = failed
        self._failure: BackendUnavailable | None = None
        self._ready: deque[_Waiting[P, R]] = deque()
        self._running: Future[Sequence[R]] | None = None
        self._since = 0.0  # when that began
        self._held = 0  # accepted, not over
        self._preparing = 0
        self._closing = False

    @property
    def held(self) -> int:
        """How many items are accepted and neither answered nor given up; one that is being prepared is not given up."""
        return self._held

    @property
    def busy_seconds(self) -> float:
        """How long ``run`` has had the batch that it has now; 0 while it has none."""
        is_busy = self._running is not None and not self._running.done()
        return asyncio.get_running_loop().time() - self._since if is_busy else 0.0

    async def __aenter__(self) -> Batcher[A, P, R]:
        self._arrival, self._complete, self._emptied = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pool = ThreadPoolExecutor(self._batching.workers, "prepare")
        self._engine = ThreadPoolExecutor(1, "engine")
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accept nothing more, answer what is held, then end the threads.

        Left by an error, as where it is cancelled, it waits for nothing: a thread that hangs runs on with what it uses.
        """
        self._closing = True
        try:
            if kind is None:
                await self._drain()
        finally:
            self._worker.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._engine.shutdown(wait=False, cancel_futures=True)

    async def _drain(self) -> None:
        while self._held:
            self._emptied.clear()
            await self._emptied.wait()
        if self._running is not None:  # nobody waits for its answers, but it uses the engine
            await asyncio.gather(asyncio.wrap_future(self._running), return_exceptions=True)

    async def submit(self, items: Sequence[A]) -> list[R]:
        """Return the answers to ``items``, in their order; all are accepted or none.

        Raises:
            QueueFull: there is no room for all of them, or this is closing.
            BackendUnavailable: the device failed, now or before.
            Exception: what preparing or running one of them raised.
        """
        if self._failure is not None:
            raise self._failure
        if self._closing or self._held + len(items) > self._batching.max_waiting:
            raise QueueFull
        self._held += len(items)
        jobs = [self._pool.submit(self._prepare, item) for item in items]
        coming = [asyncio.wrap_future(job) for job in jobs]
        try:
            answers = await self._prepared(coming)
            try:
                return list(await asyncio.gather(*answers))
            finally:
                for answer in answers:
                    answer.cancel()  # where one failed, nobody waits for the others
        finally:
            for job in jobs:
                job.cancel()  # what has not begun; what has is held until its thread is done with it
            late = [each for each in coming if not each.done()]
            for each in late:
                each.add_done_callback(self._given_up)
            self._let_go(len(items) - len(late))

    def _let_go(self, count: int) -> None:
        self._held -= count
        self._emptied.set()

    def _given_up(self, item: asyncio.Future[P]) -> None:
        if not item.cancelled():
            item.exception()  # nobody waits for it; asyncio would complain
        self._let_go(1)

    async def _prepared(self, coming: Sequence[asyncio.Future[P]]) -> list[asyncio.Future[R]]:
        """Put items into the queue once all are prepared, and return their answers to be."""
        loop = asyncio.get_running_loop()
        self._preparing += len(coming)
        try:
            ready = await _all(coming)
            if self._failure is not None:
                raise self._failure
            waiting = [_Waiting(item, loop.time(), loop.create_future()) for item in ready]
            self._ready.extend(waiting)
        finally:
            self._preparing -= len(coming)
            self._arrival.set()
            if self._is_complete():
                self._complete.set()
        return [each.answer for each in waiting]

    def _is_complete(self) -> bool:
        return len(self._ready) >= self._batching.max_batch or not self._preparing

    async def _work(self) -> None:
        while True:
            await self._arrival.wait()
            if self._ready and not self._is_complete():
                await self._fill(self._ready[0].since + self._batching.max_delay_ms / 1000)
            batch: list[_Waiting[P, R]] = []
            while self._ready and len(batch) < self._batching.max_batch:
                each = self._ready.popleft()
                if not each.answer.done():  # else nobody waits for it any more
                    batch.append(each)
            if not self._ready:
                self._arrival.clear()
            if batch:
                await self._answer(batch)

    async def _fill(self, deadline: float) -> None:
        """Wait until a batch is complete, until ``deadline`` at most."""
        self._complete.clear()
        left = deadline - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.wait([asyncio.ensure_future(self._complete.wait())], timeout=left)
            self._complete.set()  # lets what still waits for it end

    async def _answer(self, batch: list[_Waiting[P, R]]) -> None:
        loop = asyncio.get_running_loop()
        started = self._since = loop.time()
        self._running = self._engine.submit(self._run, [each.item for each in batch])
        try:
            results = await asyncio.wrap_future(self._running)
            pairs = list(zip(batch, results, strict=True))
        except BackendUnavailable as error:  # the device's: each other item would meet it, too
            self._failure = error
            for each in (*batch, *self._ready):
                _end(each.answer, error)
            self._ready.clear()
            self._failed(error)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets it
            if len(batch) == 1:
                _end(batch[0].answer, error)
                return
            for each in batch:  # one of them may have spoiled it for all
                await self._answer([each])
            return
        self._watch(len(batch), loop.time() - started)
        for each, result in pairs:
            if not each.answer.done():
                each.answer.set_result(result)


async def _all(coming: Sequence[asyncio.Future[P]]) -> list[P]:
    """Return what ``coming`` brings, or raise an error of theirs; unlike gather, to be cancelled cancels none."""
    if coming:
        await asyncio.wait(coming, return_when=asyncio.FIRST_EXCEPTION)
    failed = [each for each in coming if each.done() and each.exception()]
    return [each.result() for each in (failed or coming)]


def _end(answer: asyncio.Future[R], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
