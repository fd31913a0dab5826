"""McNemar's exact test against scipy's binomial test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from quillrt.train.mcnemar import mcnemar


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (1, 0), (5, 1), (3, 3), (40, 20), (0, 9), (9_900, 10_100), (0, 3_000)]
)
def test_p_is_scipys(only_first: int, only_second: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True, False])
    second = np.array([False] * only_first + [True] * only_second + [True, False])
    pairs = only_first + only_second
    expected = binomtest(only_first, pairs).pvalue if pairs else 1.0
    assert mcnemar(first, second).p == pytest.approx(expected)
    assert mcnemar(second, first).p == pytest.approx(expected)


def test_the_four_counts() -> None:
    first = np.array([True, True, True, True, False, False, False])
    second = np.array([True, True, True, False, True, True, False])
    found = mcnemar(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (3, 1, 2, 1)
    assert found.p == 1.0  # at most one of three on one side or the other: that is always so
