import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import MS, Clock

from quillrt.benchmarks.arrivals import Answered, queries_of, schedule, search, serve, trial
from quillrt.benchmarks.measured import Trial


def test_arrivals_are_poisson_and_the_same_crowd_at_every_rate():
    times = np.array(schedule(100, 20_000, seed=1))
    gaps = np.diff(times) / 1e9
    assert gaps.mean() == pytest.approx(1 / 100, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 100, rel=0.03)  # an exponential's deviation is its mean
    assert np.mean(gaps > 1 / 100) == pytest.approx(np.exp(-1), abs=0.01)
    np.testing.assert_allclose(schedule(200, 20_000, seed=1), times / 2, atol=1)
    assert schedule(100, 5, seed=2) != schedule(100, 5, seed=1)


def run(arrivals_ms, service_ms, bound_ms=1e6):
    clock = Clock()
    services = iter(service_ms)

    def query():
        clock.now += int(next(services) * MS)

    return serve(query, [int(ms * MS) for ms in arrivals_ms], int(bound_ms * MS), clock, clock.sleep)


def test_latencies_count_from_the_schedule_by_hand():
    """Arrivals at 1, 2, 3 and 20 ms; the first takes 10 ms, the others 1: they end at 11, 12, 13 and 21 ms."""
    answered = run([1, 2, 3, 20], [10, 1, 1, 1])
    assert np.array(answered.latencies_ns) / MS == pytest.approx([10, 10, 10, 1], abs=0.01)
    assert answered.wall_ns / MS == pytest.approx(20, abs=0.01)


@given(
    st.lists(st.floats(0.01, 20), min_size=1, max_size=30),
    st.lists(st.floats(0.01, 20), min_size=30, max_size=30),
)
def test_latencies_are_lindleys_queue(gaps, services):
    """D. V. Lindley, 1952: a query waits as long as the one before it waited and took, less the gap between them."""
    waiting, expected = 0.0, []
    for i, gap in enumerate(gaps):
        waiting = max(0.0, waiting + services[i - 1] - gap) if i else 0.0
        expected.append(waiting + services[i])
    found = np.array(run(np.cumsum(gaps), services).latencies_ns) / MS
    assert found == pytest.approx(expected, abs=0.01 * len(gaps))


def test_a_broken_bound_ends_the_trial():
    answered = run(range(1, 101), [50] * 100, bound_ms=60)
    assert len(answered.latencies_ns) == 3  # 50, 99, 148 ms: of 100 queries one may be late
    found = trial(10.0, answered, 60)
    assert not found.held
    assert trial(10.0, Answered((MS, 2 * MS), 4 * MS), 2.0) == Trial(10.0, 2, 2.0, True, 500.0)


def test_a_trial_has_queries_for_its_percentile_and_for_its_time():
    assert queries_of(10, 0.5) == 662
    assert queries_of(10_000, 0.5) == 5000


@pytest.mark.parametrize(("capacity", "start"), [(1000, 400), (1000, 3000), (17, 900)])
def test_the_search_finds_the_highest_rate(capacity, start):
    tried = []

    def attempt(rate):
        tried.append(rate)
        return Trial(rate, 662, 1.0, rate <= capacity, rate)

    found = search(attempt, start)
    assert capacity / 1.02 <= found.rate_qps <= capacity
    assert [trial.rate_qps for trial in found.trials] == tried


def test_who_never_holds_the_bound_has_no_rate():
    found = search(lambda rate: Trial(rate, 662, 99.0, held=False, completed_qps=rate), 1000)
    assert found.rate_qps == 0
    assert len(found.trials) < 10
