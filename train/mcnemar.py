"""Whether two classifiers' accuracies differ by more than chance, on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same images, and how likely chance makes them differ so much.

    Attributes:
        both: images that both get right.
        only_first: images that the first alone gets right.
        only_second: images that the second alone gets right.
        neither: images that both get wrong.
        p: of McNemar's exact test, two-sided.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> McNemar:
    """Compare two classifiers on the images that one of them alone gets right, the discordant ones.

    Q. McNemar, Psychometrika 12 (1947); exact form: each discordant image falls either way with probability 1/2.

    Args:
        first_right: (N,), where the first classifier is right.
        second_right: (N,), where the second is right.
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    return McNemar(
        both=int((first_right & second_right).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~first_right & ~second_right).sum()),
        p=exact_p(only_first, only_second),
    )


def exact_p(only_first: int, only_second: int) -> float:
    """Return how likely a fair coin thrown ``only_first + only_second`` times falls so unequally, or more so."""
    throws, fewer = only_first + only_second, min(only_first, only_second)
    if not throws:
        return 1.0
    ways = tail = 1  # whole numbers, so that nothing is rounded: of `throws` over k, and their sum up to k
    for k in range(fewer):
        ways = ways * (throws - k) // (k + 1)
        tail += ways
    p: float = 2 * tail / 2**throws
    return min(1.0, p)
