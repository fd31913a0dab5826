import numpy as np
import pytest

from quillrt.runtime.ink_levels import find_levels


@pytest.mark.parametrize("noise", [0, 2, 8])
def test_blank_paper_has_no_ink(noise):
    random = np.random.default_rng(0)
    ink = np.clip(np.abs(random.normal(0, noise, (300, 400))), 0, 255).astype(np.uint8)

    assert find_levels(ink) is None


@pytest.mark.parametrize("share", [0.0008, 0.01, 0.3])
@pytest.mark.parametrize("level", [60, 220])
def test_ink_lies_above_the_levels_and_paper_below(share, level):
    random = np.random.default_rng(0)
    ink = np.abs(random.normal(0, 4, 90_000)).astype(np.uint8)
    ink[: round(share * ink.size)] = level

    found = find_levels(ink.reshape(300, 300))

    assert 8 <= found.ground < found.weak < found.strong < level
