"""Whether two classifiers' accuracies differ by more than chance, on the same images."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> float:
    """Return the two-sided p of McNemar's exact test: how likely chance splits the discordant pairs so unequally.

    Q. McNemar, Psychometrika 12 (1947); exact form: the discordant pairs fall either way with probability 1/2.

    Args:
        first_right: (N,), where the first classifier is right.
        second_right: (N,), where the second is right.
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    pairs = only_first + only_second
    tail = sum(comb(pairs, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, tail / 2 ** (pairs - 1)) if pairs else 1.0
