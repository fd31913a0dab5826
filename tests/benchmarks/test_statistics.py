import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.benchmarks.statistics import median_of_medians, percentile, percentiles, queries_needed


def test_percentile_is_the_nearest_rank_by_hand():
    values = [15, 20, 35, 40, 50]  # ranks ceil(5 p): the usual textbook example
    assert [percentile(values, p) for p in (0.05, 0.30, 0.40, 0.50, 1.00)] == [15, 20, 20, 35, 50]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_percentile_is_numpys_inverted_cdf(values, p):
    assert percentile(sorted(values), p) == np.percentile(values, 100 * p, method="inverted_cdf")


def test_percentile_of_a_product_that_rounds_up():
    assert 0.07 * 100 > 7  # in binary
    assert percentile(range(1, 101), 0.07) == 7


@pytest.mark.parametrize(("p", "needed"), [(0.90, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_queries_needed_are_loadgens(p, needed):
    assert queries_needed(p) == needed


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_queries_needed_is_the_binomial_tail(p):
    def one_or_none(n):
        return sum(math.comb(n, k) * (1 - p) ** k * p ** (n - k) for k in (0, 1))

    n = queries_needed(p)
    assert one_or_none(n) <= 0.01 < one_or_none(n - 1)


def test_percentiles_are_left_out_below_their_number_of_queries():
    assert set(percentiles(range(63))) == {"p50"}
    assert set(percentiles(range(64))) == {"p50", "p90"}
    assert set(percentiles(range(661))) == {"p50", "p90", "p95"}
    assert percentiles(range(662))["p99"] == 655  # rank ceil(655.38) = 656, counted from 0


def test_one_disturbed_round_does_not_move_the_median():
    assert median_of_medians([[1, 2, 3], [2, 2, 9], [100, 100, 100]]) == 2
