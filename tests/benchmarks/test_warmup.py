import pytest
from simulated import MS, Clock

from quillrt.benchmarks.warmup import warm_up


def lasting(clock, times):
    """A query that takes the next of ``times`` ns, the last one for ever."""
    left = list(times)

    def query():
        clock.now += left.pop(0) if len(left) > 1 else left[0]

    return query


def test_three_alike_windows_are_enough():
    clock = Clock()
    found, median_ms = warm_up(lasting(clock, [MS]), clock, limit_s=10)
    assert found.stable
    assert found.queries == 3 * 10  # windows of 10 ms
    assert found.seconds == pytest.approx(0.03, rel=0.01)
    assert median_ms == pytest.approx(1, rel=0.01)


def test_it_lasts_until_the_slow_beginning_is_over():
    """Twenty queries of 3 ms fall by and by to 1 ms; the windows of the fall are further apart than a tenth."""
    clock = Clock()
    falling = [int(MS * (3 - 0.1 * k)) for k in range(20)]
    found, median_ms = warm_up(lasting(clock, [*falling, MS]), clock, limit_s=10)
    assert found.stable
    assert found.queries > 20
    assert median_ms == pytest.approx(1, rel=0.01)


def test_it_gives_up_and_says_so():
    clock = Clock()
    growing = [MS * (k // 10 + 1) for k in range(2000)]
    found, _ = warm_up(lasting(clock, growing), clock, limit_s=0.5)
    assert not found.stable
    assert 0.5 <= found.seconds < 0.7


def test_a_slow_query_fills_no_window_alone():
    clock = Clock()
    found, _ = warm_up(lasting(clock, [100 * MS]), clock, limit_s=0.1)
    assert (found.queries, found.stable) == (15, True)
