"""Counting in batches against numpy on all values at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.ao.quantization import MovingAverageMinMaxObserver

from quillrt.calibration.histogram import BINS, Histogram, pack, unpack
from quillrt.runtime.errors import CalibrationError


def counted(*batches) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, np.float32))
    return histogram


def test_batches_that_widen_the_limit_lose_no_count() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(0, scale, 2000).astype(np.float32) for scale in (0, 1e-4, 0.3, 20, 0.01)]
    found = counted(*batches)
    everything = np.concatenate(batches)
    edges = np.linspace(-found.limit, found.limit, 2 * BINS + 1)
    np.testing.assert_array_equal(found.counts, np.histogram(everything, edges)[0])
    assert (found.low, found.high) == (everything.min(), everything.max())


def test_the_limit_is_less_than_twice_the_largest_value() -> None:
    for largest in (1e-30, 0.7, 1.0, 3.0, 1e30):
        limit = counted([-largest], [largest / 3]).limit
        assert np.float32(largest) <= limit <= 2.0001 * largest


def test_zeros_are_counted_before_there_is_a_limit() -> None:
    found = counted(np.zeros(5), np.zeros((2, 2)), [4.0])
    assert found.counts[BINS] == 9
    assert found.counts.sum() == 10


def test_the_moving_average_is_torchs() -> None:
    observer = MovingAverageMinMaxObserver(averaging_constant=0.01)
    batches = [np.random.default_rng(seed).normal(seed, 2, (4, 5)).astype(np.float32) for seed in range(6)]
    for batch in batches:
        observer(torch.from_numpy(batch))
    found = counted(*batches)
    assert (found.average_low, found.average_high) == pytest.approx(
        (observer.min_val.item(), observer.max_val.item()), rel=1e-5
    )


def test_the_summary_is_a_coarse_histogram() -> None:
    values = np.random.default_rng(1).uniform(-1, 3, 40_000).astype(np.float32)
    found = counted(*np.split(values, 10)).summary(16)
    expected = np.histogram(values, 16)[0]
    assert sum(found) == 40_000
    np.testing.assert_allclose(found, expected, atol=0.003 * 40_000)


@pytest.mark.parametrize("value", [0.0, 2.5, -1.0])
def test_the_summary_of_one_value(value: float) -> None:
    assert sum(counted([value] * 7).summary(16)) == 7


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_none(value: float) -> None:
    with pytest.raises(CalibrationError, match="finite"):
        counted([1.0, value])


def test_what_is_packed_comes_back_and_counts_on() -> None:
    rng = np.random.default_rng(3)
    before = {"a": counted(rng.normal(size=100)), "b.c": counted(rng.uniform(0, 9, 50)), "zero": counted([0.0])}
    after = unpack(pack(before))
    assert list(after) == list(before)
    more = rng.normal(0, 20, 80).astype(np.float32)
    for name, histogram in before.items():
        histogram.add(more)
        after[name].add(more)
        np.testing.assert_array_equal(after[name].counts, histogram.counts)
        assert {**vars(after[name]), "counts": 0} == {**vars(histogram), "counts": 0}


def test_values_too_small_for_bins_are_counted_all_the_same():
    histogram = Histogram()
    histogram.add(np.array([0, 1e-38, -1e-40], np.float32))
    assert histogram.counts.sum() == 3
    assert histogram.high == pytest.approx(1e-38)
