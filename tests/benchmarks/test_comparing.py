import math

import numpy as np
import pytest
from scipy.stats import t as student

from quillrt.benchmarks.comparing import ratio, reference_among, verdict
from quillrt.benchmarks.measured import Metric
from quillrt.benchmarks.results import Ratio
from quillrt.benchmarks.statistics import build_factor, median_interval, student_quantile


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


def test_sessions_that_differ_widen_an_interval_by_students():
    """Of three sessions whose medians are 1, e and e^2 the mean of their logarithms has the error 1 / sqrt(3)."""
    rounds = [math.exp(power + shift) for power in (0, 1, 2) for shift in (-1e-9, 1e-9)]
    error = student.ppf(0.975, 2) / math.sqrt(3)
    builds = (0, 0, 1, 1, 2, 2)
    assert build_factor((rounds, builds)) == pytest.approx(math.exp(error), rel=1e-6)
    both = build_factor((rounds, builds), (rounds[:4], builds[:4]))
    assert both == pytest.approx(math.exp(student.ppf(0.975, 1) * math.sqrt(1 / 3 + 1 / 4)), rel=1e-6)
    assert build_factor((rounds, [0] * 6)) == build_factor((rounds, ())) == 1
    assert build_factor(([0.0, 1.0], (0, 1))) == build_factor(([1e-300, 1e300], (0, 1))) == math.inf


def test_rounds_that_agree_within_each_of_three_sessions_make_nobody_faster():
    row, other = times(*[1.0] * 3, *[1.05] * 3, *[1.2] * 3), times(*[1.3] * 9)
    assert verdict(ratio(row, other)) == "faster"
    apart = ratio(row, other, (0, 0, 0, 1, 1, 1, 2, 2, 2))
    assert verdict(apart) == "too noisy"
    assert apart.low < 1 < 1.3 < apart.high
    alike = times(*[1.0, 1.05, 1.2] * 3)
    assert ratio(alike, other, (0, 0, 0, 1, 1, 1, 2, 2, 2)) == ratio(alike, other)


@pytest.mark.parametrize("sessions", [3, 5])
def test_the_interval_over_sessions_holds_the_median_as_often_as_it_says(sessions):
    """Sessions of five rounds each, which differ more than their rounds do."""
    draw = np.random.default_rng(sessions)
    builds = np.repeat(range(sessions), 5)
    held, wider = [], []
    for _ in range(300):
        figures = np.exp(np.repeat(draw.normal(0, 0.1, sessions), 5) + draw.normal(0, 0.02, len(builds)))
        for found, given in ((held, builds.tolist()), (wider, ())):
            each = ratio(times(*figures), times(*[1.0] * len(builds)), given)
            found.append(each.low <= 1 <= each.high)
    assert np.mean(held) > 0.95 - 0.038 > np.mean(wider)


def test_one_disturbed_round_of_nine_does_not_widen_it():
    low, high = median_interval([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 1.0, 50.0])
    assert 0.98 <= low < high <= 1.02


@pytest.mark.parametrize("n", [6, 9, 15])
def test_the_interval_holds_the_median_as_often_as_it_says(n):
    """Of skewed draws whose median is known to be 1; at 95 %, 300 sets may miss by 3 standard errors, 3.8 points."""
    draw = np.random.default_rng(n)
    intervals = [median_interval(draw.lognormal(0, 0.3, n).tolist()) for _ in range(300)]
    assert np.mean([low <= 1 <= high for low, high in intervals]) > 0.95 - 0.038
