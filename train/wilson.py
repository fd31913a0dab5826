"""How far chance may have moved a measured share."""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the bounds, 0..1, between which the true share lies at this confidence if ``successes`` of ``n`` were.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Unlike
    p ± z sqrt(p (1 - p) / n) it has a width also where all or none succeed, and never leaves 0..1.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At the ends the bound is exactly 0 or 1, which rounding may miss.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)
