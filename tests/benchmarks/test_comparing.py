import math

import numpy as np
import pytest
from invented import REFERENCE, row
from scipy.stats import t as student

from quillrt.benchmarks.comparing import judged, ratio, reference_among, verdict
from quillrt.benchmarks.intervals import paired_interval, sessions_interval
from quillrt.benchmarks.measured import Metric
from quillrt.benchmarks.results import Ratio
from quillrt.benchmarks.statistics import median_interval, student_quantile

THREE = (0, 0, 0, 1, 1, 1, 2, 2, 2)  # sessions of nine rounds
APART = (1.0,) * 3 + (1.05,) * 3 + (1.2,) * 3  # which differ more than the rounds of each


def times(*values):
    return Metric("p90_ms", None, higher_is_better=False, rounds=values)


def rates(*values):
    return Metric("images_per_second", None, higher_is_better=True, rounds=values)


def test_ratios_are_paired_by_round():
    """The rounds differ by a factor of a hundred, and each by exactly two: nothing is left to chance."""
    found = ratio(times(1, 10, 100, 2, 50), times(2, 20, 200, 4, 100))
    assert found == Ratio(2, 2, 2, 5)
    assert ratio(rates(10, 20), rates(5, 10)) == Ratio(2, 2, 2, 2)
    assert ratio(times(1.0), times(3.0)) == Ratio(3, 3, 3, 1)


def test_a_round_without_a_rate_is_not_left_out():
    """Twice as fast in five rounds, and out in the sixth: the five alone would make it the winner."""
    assert ratio(rates(0, 2, 2, 2, 2, 2), rates(1, 1, 1, 1, 1, 1)) == Ratio(0, 0, 0, 0)
    assert ratio(rates(1, 1, 1, 1, 1, 1), rates(0, 2, 2, 2, 2, 2)) == Ratio(0, 0, 0, 0)
    assert verdict(Ratio(0, 0, 0, 0)) == "not judged"
    assert ratio(rates(0.0), rates(0.0)).rounds == 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Ratio(2, 1.5, 3, 5), "faster"),
        (Ratio(0.5, 0.4, 0.99, 5), "slower"),
        (Ratio(1, 0.99, 1.01, 5), "equal"),
        (Ratio(1, 0.99, 1.05, 5), "too noisy"),
        (Ratio(3, 0.9, 9, 5), "too noisy"),
        (Ratio(2, 1.5, 3, 4), "not judged"),
    ],
)
def test_the_rule_of_a_verdict(found, said):
    assert verdict(found) == said


def test_the_reference_is_exact_and_known():
    eager, ort, litert = ("eager fp32", "fp32"), ("onnxruntime-cpu fp32", "fp32"), ("litert fp32", "fp32")
    int8 = ("openvino int8", "int8")
    assert reference_among([int8, litert, ort, eager]) == "eager fp32"
    assert reference_among([int8, litert, ort]) == "onnxruntime-cpu fp32"
    assert reference_among([int8, litert]) == "litert fp32"
    assert reference_among([int8]) == "openvino int8"
    assert reference_among([]) is None


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 40])
def test_students_quantile_is_scipys(freedom):
    assert student_quantile(0.975, freedom) == pytest.approx(student.ppf(0.975, freedom), rel=1e-9)


def test_the_interval_of_few_values_is_their_range():
    """Five values bound their median with 94 % at best, by their smallest and their largest."""
    assert median_interval([3, 1, 2, 5, 4]) == (1, 5)
    assert median_interval([7]) == (0, math.inf)
    assert median_interval([2] * 9) == (2, 2)


def test_an_interval_over_sessions_is_students_of_their_logarithms():
    """Three sessions of two rounds, with medians 1, e and e^2."""
    rounds = [math.exp(power + shift) for power in (0, 1, 2) for shift in (-1e-9, 1e-9)]
    expected = student.interval(0.95, 2, loc=1, scale=1 / math.sqrt(3))
    assert np.log(paired_interval(rounds, (0, 0, 1, 1, 2, 2))) == pytest.approx(expected, rel=1e-6)
    assert paired_interval(rounds, (0,) * 6) == paired_interval(rounds) == median_interval(rounds)


def test_rounds_that_agree_within_each_of_three_sessions_make_nobody_faster():
    rounds = {REFERENCE: (1.3,) * 9, "litert int8": APART}
    for builds, said, wins in (((0,) * 9, "faster", "litert int8"), (THREE, "too noisy", None)):
        rows = [row(name, 1, 1.0, rounds=each, builds=builds) for name, each in rounds.items()]
        (_, found), _, (winner,) = judged(rows)
        assert (found.verdict, winner.name) == (said, wins)
        assert found.speedup[REFERENCE].ratio == pytest.approx(1.3 / 1.05)


def test_sessions_that_differ_in_both_rows_alike_widen_nothing():
    rows = [row(name, 1, ms, rounds=APART, builds=THREE) for name, ms in ((REFERENCE, 2.0), ("litert int8", 1.0))]
    found = judged(rows)[0][1].speedup[REFERENCE]
    assert (found.low, found.high) == pytest.approx((2, 2))


@pytest.mark.parametrize("sessions", [3, 5, 9, 20])
def test_the_interval_over_sessions_holds_the_median_as_often_as_it_says(sessions):
    """Sessions of five rounds each, which differ more than their rounds do; 2,000 times, 3 standard errors."""
    draw = np.random.default_rng(sessions)
    builds = np.repeat(range(sessions), 5).tolist()
    held = []
    for _ in range(2000):
        figures = np.exp(np.repeat(draw.normal(0, 0.1, sessions), 5) + draw.normal(0, 0.02, len(builds)))
        low, high = sessions_interval((figures.tolist(), builds))
        held.append(low <= 1 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_one_disturbed_round_of_nine_does_not_widen_it():
    low, high = median_interval([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 1.0, 50.0])
    assert 0.98 <= low < high <= 1.02


@pytest.mark.parametrize("n", [6, 9, 15])
def test_the_interval_holds_the_median_as_often_as_it_says(n):
    """Of skewed draws whose median is known to be 1; at 95 %, 300 sets may miss by 3 standard errors, 3.8 points."""
    draw = np.random.default_rng(n)
    intervals = [median_interval(draw.lognormal(0, 0.3, n).tolist()) for _ in range(300)]
    assert np.mean([low <= 1 <= high for low, high in intervals]) > 0.95 - 0.038
