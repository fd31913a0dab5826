"""Backends that would win an unfair benchmark, and machines that would give a false winner."""

import numpy as np
import pytest
from simulated import MS

from quillrt.benchmarks.report import cells, notes


def test_a_backend_that_sleeps_every_50th_query_has_that_in_its_tail(planted, race):
    rows, _ = race(planted("eager", lambda n, _: 20 * MS if n % 50 == 0 else MS), seconds=1.5)
    measured = rows["eager fp32"].measured
    assert measured.median_ms == pytest.approx(1, abs=0.01)
    assert measured.percentiles_ms["p95"] == pytest.approx(1, abs=0.01)
    assert measured.percentiles_ms["p99"] == pytest.approx(20, abs=0.01)
    slow = [ns for each in measured.rounds for ns in each.latencies_ns if ns > 19 * MS]
    assert len(slow) / measured.queries == pytest.approx(1 / 50, rel=0.2)


def stalling(n, _):
    """A millisecond, and a fifth of a second every 300th time."""
    return 200 * MS if n % 300 == 0 else MS


def test_arrivals_are_charged_with_a_stall_that_a_loop_hardly_sees(planted, race):
    """The loop sends nothing while it waits: one query of 300 is late there, but 100 would have come meanwhile."""
    alone, _ = race(planted("eager", stalling), seconds=3)
    assert alone["eager fp32"].measured.percentiles_ms["p99"] == pytest.approx(1, abs=0.01)
    served, _ = race(planted("eager", stalling), scenario="server", latency_bound_ms=20, seconds=3)
    steady, _ = race(planted("eager", MS), scenario="server", latency_bound_ms=20, seconds=3)
    assert steady["eager fp32"].measured.metric.value > 500
    # 1 % of the queries may be late: of 300, the stalled one and those of the 0.2 s behind it.
    assert served["eager fp32"].measured.metric.value < 20


def test_a_backend_that_answers_early_and_works_late_is_found_out_by_arrivals(planted, race, clock):
    """Its own latencies are its promises: the work is done behind the end of the query, before the next can begin."""

    def early(n, _):
        clock.afterwards = 10 * MS
        return MS / 100

    alone, _ = race(planted("eager", early))
    measured = alone["eager fp32"].measured
    assert measured.median_ms < 0.1
    assert measured.images_per_second == pytest.approx(100, rel=0.1)  # the wall time has it
    served, _ = race(planted("eager", early), scenario="server", latency_bound_ms=30, seconds=3)
    assert served["eager fp32"].measured.metric.value < 100


def test_the_wrong_images_have_their_numbers_in_the_run(planted, race, images, quadrants):
    """Of 20 images ten are asked, every other one and the last; labels 4, 5 and 19 are not what the network says."""
    labels = quadrants.logits(images).argmax(axis=1).astype(np.int64)
    labels[[4, 5, 19]] = (labels[[4, 5, 19]] + 1) % 4
    rows, _ = race(planted("eager", MS), labels=labels, checked_queries=10)
    accuracy = rows["eager fp32"].measured.accuracy
    assert (accuracy.images, accuracy.right, accuracy.wrong) == (10, 8, (4, 19))


def test_a_backend_that_is_fast_and_wrong_never_wins(planted, race, images, quadrants):
    labels = quadrants.logits(images).argmax(axis=1).astype(np.int64)
    wrong = planted("litert", MS / 10, spoil=lambda logits: np.roll(logits, 1, axis=1))
    rows, winner = race(planted("eager", 2 * MS), planted("onnxruntime-cpu", MS), wrong, labels=labels)
    assert rows["litert fp32"].verdict == "wrong"
    assert "more than the 0.0001" in rows["litert fp32"].why
    accuracy = rows["litert fp32"].measured.accuracy
    assert (accuracy.right, accuracy.only_reference) == (0, 20)
    assert accuracy.p == pytest.approx(2 / 2**20)  # McNemar by hand: 20 of 20 throws fall one way
    assert (winner.name, winner.tied) == ("onnxruntime-cpu fp32", ())
    assert [line[-1] for line in cells(list(rows.values()))] == ["baseline", "faster", "WRONG"]
    assert notes(list(rows.values()))[0].startswith("WRONG: litert fp32, batch 1: answers differ from eager fp32")


def test_a_backend_that_keeps_answers_has_none_for_the_rotation(planted, race):
    known = set()

    def remembering(n, batch):
        key = batch.tobytes()
        hit = key in known
        known.add(key)
        return MS / 100 if hit else MS

    rows, _ = race(planted("eager", remembering))
    measured = rows["eager fp32"].measured
    assert min(ns for each in measured.rounds for ns in each.latencies_ns) >= MS
    assert measured.agreement.within


@pytest.fixture
def neighbour(clock):
    """Slow down, by a draw of its own, every round of every contestant."""
    draw = np.random.default_rng(0)

    def neighbour(ns, spread):
        state = {"at": -1, "factor": 1.0}

        def takes(n, _):
            slot = clock.now // (100 * MS)  # the length of a round
            if slot != state["at"]:
                state.update(at=slot, factor=1 + spread * draw.random())
            return ns * state["factor"]

        return takes

    return neighbour


def test_a_noisy_neighbour_makes_no_winner_of_equals(planted, race, neighbour):
    rows, winner = race(
        planted("eager", neighbour(MS, 1.0)),
        planted("onnxruntime-cpu", neighbour(0.97 * MS, 1.0)),
        rounds=7,
        seconds=0.7,
    )
    row = rows["onnxruntime-cpu fp32"]
    assert row.verdict == "too noisy"
    ratio = row.speedup["eager fp32"]
    assert ratio.low < 1 < ratio.high
    assert winner.name is None
    assert set(winner.tied) == set(rows)
    assert "differ too much" in winner.why


def test_a_noisy_neighbour_does_not_hide_who_is_twice_as_fast(planted, race, neighbour):
    noisy = planted("eager", neighbour(2 * MS, 0.3)), planted("onnxruntime-cpu", neighbour(MS, 0.3))
    rows, winner = race(*noisy, rounds=7, seconds=0.7)
    assert rows["onnxruntime-cpu fp32"].verdict == "faster"
    assert winner.name == "onnxruntime-cpu fp32"


def test_on_a_quiet_machine_the_like_are_equal(planted, race):
    rows, winner = race(planted("eager", MS), planted("onnxruntime-cpu", MS))
    assert rows["onnxruntime-cpu fp32"].verdict == "equal"
    assert winner.name is None
    assert "less than 2%" in winner.why


def test_a_builder_that_draws_lots_is_measured_over_builds(planted, race):
    """Each build is one of two speeds: over ten builds nobody can call it faster than what lies between them."""
    speeds = iter([MS, 2 * MS] * 5)

    def lots(n, batch, chosen={}):  # noqa: B006 - remembers what this build drew
        if n == 1:
            chosen["ns"] = next(speeds)
        return chosen["ns"]

    rows, _ = race(planted("eager", 1.5 * MS), planted("litert", lots), rounds=10, builds=10, seconds=1.0)
    measured = rows["litert fp32"].measured
    assert [build.median_ms for build in measured.builds] == pytest.approx([1, 2] * 5, abs=0.01)
    assert measured.build_spread == pytest.approx(1 / 1.5, rel=0.01)
    assert rows["litert fp32"].verdict == "too noisy"
    assert rows["eager fp32"].measured.build_spread == pytest.approx(0, abs=0.01)


def test_fewer_than_five_rounds_judge_nobody(planted, race):
    rows, winner = race(planted("eager", 2 * MS), planted("litert", MS), rounds=4)
    assert rows["litert fp32"].verdict == "not judged"
    assert winner.name is None
    assert "fewer than 5 rounds" in winner.why
