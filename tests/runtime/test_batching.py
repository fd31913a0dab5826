"""The batcher on functions that are watched: what is accepted is answered once, by its own answer, in batches."""

import asyncio
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quillrt.runtime.batching import Batcher, Batching, QueueFull
from quillrt.runtime.errors import BackendUnavailable, ConfigError

UNPREPARED, POISON = 7, 13  # an item that cannot be prepared, and one that spoils its batch


class Engine:
    """Answers an item by its double, prepared by adding a half, and remembers its batches."""

    def __init__(self):
        self.batches = []
        self.watched = []

    def prepare(self, item):
        if item % 20 == UNPREPARED:
            raise ValueError(f"cannot prepare {item}")
        return item + 0.5

    def run(self, batch):
        self.batches.append(batch)
        if any(item % 20 == POISON + 0.5 for item in batch):
            raise OSError("spoiled")
        return [2 * item for item in batch]

    def watch(self, size, seconds):
        assert seconds >= 0
        self.watched.append(size)

    def batcher(self, **batching):
        return Batcher(self.prepare, self.run, Batching(**batching), self.watch)


def ends(task):
    """Return how a request ended: its answers, or the kind of its error."""
    if task.cancelled():
        return "cancelled"
    return type(task.exception()) if task.exception() else task.result()


def expected(items):
    if any(item % 20 == UNPREPARED for item in items):
        return ValueError
    if any(item % 20 == POISON for item in items):
        return OSError
    return [2 * item + 1 for item in items]


REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 5),  # items
        st.integers(0, 3),  # turns of the loop before the next request comes
        st.sampled_from([False, False, False, True]),  # the client hangs up
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(
    REQUESTS, st.integers(1, 6), st.sampled_from([0.0, 0.5]), st.integers(1, 12), st.integers(1, 3), st.integers(0, 40)
)
def test_each_request_is_refused_or_answered_once_by_its_own_answers(requests, batch, delay, room, workers, first):
    engine = Engine()

    async def play():
        tasks, number = [], first
        async with engine.batcher(max_batch=batch, max_delay_ms=delay, max_waiting=room, workers=workers) as batcher:
            for count, turns, hangs_up in requests:
                items = list(range(number, number + count))
                number += count
                seen = []

                async def ask(items=items, seen=seen):
                    seen.append(batcher.held + len(items) <= room)  # as it is when the batcher is asked
                    return await batcher.submit(items)

                task = asyncio.create_task(ask())
                await asyncio.sleep(0)
                (has_room,) = seen
                assert batcher.held <= room
                if hangs_up:
                    task.cancel()
                tasks.append((items, task, has_room, hangs_up))
                for _ in range(turns):
                    await asyncio.sleep(0)
        assert all(task.done() for _, task, *_ in tasks)  # closing drains
        assert batcher.held == 0
        with pytest.raises(QueueFull):
            await batcher.submit([1])
        return [(items, ends(task), has_room, hangs_up) for items, task, has_room, hangs_up in tasks]

    ended = asyncio.run(play())
    for items, end, has_room, hangs_up in ended:
        if not has_room:
            assert end in (QueueFull, "cancelled") if hangs_up else end is QueueFull
        else:
            assert end == expected(items) or (hangs_up and end == "cancelled")
    assert all(1 <= len(each) <= batch for each in engine.batches)
    whole = [each for each in engine.batches if not any(item % 20 == POISON + 0.5 for item in each)]
    assert Counter(engine.watched) <= Counter(map(len, whole))  # closing does not wait for what nobody waits for
    ran = [item for each in whole for item in each]
    assert len(ran) == len(set(ran))
    for items, end, *_ in ended:
        if isinstance(end, list):
            assert {item + 0.5 for item in items} <= set(ran)


def gated(engine):
    """Let the engine's first batch wait for an event; another tells that it has begun."""
    begun, go, run = threading.Event(), threading.Event(), engine.run

    def wait(batch):
        begun.set()
        assert go.wait(30)
        return run(batch)

    engine.run = wait
    return begun, go


def test_a_batch_forms_while_the_engine_is_busy_in_the_order_of_arrival():
    engine = Engine()
    begun, go = gated(engine)

    async def play():
        async with engine.batcher(max_batch=4, workers=1) as batcher:
            tasks = [asyncio.create_task(batcher.submit([0]))]
            await asyncio.to_thread(begun.wait, 30)
            for number in (1, 2, 3, 4, 5):
                tasks.append(asyncio.create_task(batcher.submit([number])))
            while len(batcher._ready) < 5:
                await asyncio.sleep(0)
            go.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(play()) == [[1], [3], [5], [7], [9], [11]]
    assert engine.batches == [[0.5], [1.5, 2.5, 3.5, 4.5], [5.5]]


def test_what_has_no_room_is_refused_and_what_was_accepted_is_answered_when_closing():
    engine = Engine()
    begun, go = gated(engine)

    async def play():
        async with engine.batcher(max_batch=2, max_waiting=3, workers=1) as batcher:
            first = asyncio.create_task(batcher.submit([0, 1]))
            await asyncio.to_thread(begun.wait, 30)
            with pytest.raises(QueueFull):
                await batcher.submit([2, 3])
            last = asyncio.create_task(batcher.submit([4]))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await batcher.submit([5])
            assert batcher.held == 3
            asyncio.get_running_loop().call_later(0.01, go.set)
        return first.result(), last.result()

    assert asyncio.run(play()) == ([1, 3], [9])


@pytest.mark.parametrize(("delay_ms", "batches"), [(60_000, [[1.5, 2.5]]), (1, [[1.5], [2.5]])])
def test_a_free_engine_waits_for_what_is_being_prepared_as_long_as_the_bound_says(delay_ms, batches):
    engine, go = Engine(), threading.Event()
    prepare = engine.prepare
    engine.prepare = lambda item: prepare(item) if item == 1 or go.wait(30) else None

    async def play():
        async with engine.batcher(max_delay_ms=delay_ms) as batcher:
            tasks = [asyncio.create_task(batcher.submit([number])) for number in (1, 2)]
            if len(batches) == 2:
                await tasks[0]
            else:
                while not batcher._ready:
                    await asyncio.sleep(0)
            go.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(play()) == [[3], [5]]
    assert engine.batches == batches


def test_nothing_waits_for_what_has_not_come():
    async def play():
        async with Engine().batcher(max_delay_ms=3_600_000) as batcher:
            return await batcher.submit([1, 2])  # else this test does not end

    assert asyncio.run(play()) == [3, 5]


def test_an_item_that_spoils_its_batch_fails_alone():
    engine = Engine()
    _, go = gated(engine)

    async def play():
        async with engine.batcher(workers=1) as batcher:
            tasks = [asyncio.create_task(batcher.submit([number])) for number in (1, POISON, 2)]
            go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    first, spoiled, last = asyncio.run(play())
    assert (first, str(spoiled), last) == ([3], "spoiled", [5])


def test_beside_an_item_that_cannot_be_prepared_nothing_is_begun_and_what_is_under_way_is_held():
    engine, begun, go, prepared = Engine(), threading.Event(), threading.Event(), []
    prepare = engine.prepare

    def slow(item):
        prepared.append(item)
        if item == UNPREPARED:
            assert begun.wait(30)
        else:
            begun.set()
            assert go.wait(30)
        return prepare(item)

    engine.prepare = slow

    async def play():
        async with engine.batcher(workers=2, max_waiting=50) as batcher:
            try:
                with pytest.raises(ValueError, match="cannot prepare 7"):
                    await batcher.submit([1, UNPREPARED, *range(20, 60, 2)])
                await asyncio.sleep(0.01)  # what had not begun is let go
                held = batcher.held
                go.set()
                while batcher.held:
                    await asyncio.sleep(0.001)
            finally:
                go.set()
        return held

    held = asyncio.run(play())
    assert 1 <= held <= 2  # the free thread may have begun another
    assert len(prepared) == 1 + held
    assert engine.batches == []


def test_once_the_device_has_failed_nothing_runs_or_is_accepted():
    engine, told = Engine(), []
    begun, go = gated(engine)
    run, failure = engine.run, BackendUnavailable("CUDA failed")

    def fail(batch):
        run(batch)
        raise failure

    async def play():
        async with Batcher(engine.prepare, fail, Batching(max_batch=2), failed=told.append) as batcher:
            first = asyncio.create_task(batcher.submit([0, 1]))
            await asyncio.to_thread(begun.wait, 30)
            behind = asyncio.create_task(batcher.submit([2, 3, 4]))
            while len(batcher._ready) < 3:
                await asyncio.sleep(0.001)
            go.set()
            ended = await asyncio.gather(first, behind, return_exceptions=True)
            with pytest.raises(BackendUnavailable, match="CUDA failed"):
                await batcher.submit([5])
            assert batcher.held == 0
        return ended

    assert asyncio.run(play()) == [failure, failure]
    assert (engine.batches, told) == ([[0.5, 1.5]], [failure])


@pytest.mark.parametrize("left_by", [None, asyncio.CancelledError])
def test_closing_waits_for_a_batch_that_nobody_waits_for_but_not_where_it_is_cancelled(left_by):
    engine = Engine()
    begun, go = gated(engine)

    async def play():
        batcher = await engine.batcher().__aenter__()
        asking = asyncio.create_task(batcher.submit([1]))
        await asyncio.to_thread(begun.wait, 30)
        asking.cancel()
        closing = asyncio.create_task(batcher.__aexit__(left_by, None, None))
        await asyncio.sleep(0.05)
        assert closing.done() == (left_by is not None)
        assert batcher.busy_seconds > 0
        closing.cancel()
        await asyncio.wait([closing])
        go.set()  # until here the engine was busy

    asyncio.run(play())


def test_an_engine_that_answers_too_few_fails_the_request():
    async def play():
        async with Batcher(lambda item: item, lambda batch: []) as batcher:
            with pytest.raises(ValueError, match="zip"):
                await batcher.submit([1])

    asyncio.run(play())


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_waiting": 0}, {"workers": 0}, {"max_delay_ms": -1.0}])
def test_bounds_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="of 1 or more and no delay below 0"):
        Batching(**wrong)
