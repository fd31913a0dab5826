import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.components import find_components

ndimage = pytest.importorskip("scipy.ndimage")


@given(st.integers(1, 25), st.integers(1, 25), st.floats(0, 1), st.integers(0, 10_000))
def test_parts_are_scipys(height, width, share, seed):
    random = np.random.default_rng(seed)
    mask = random.random((height, width)) < share
    levels = random.integers(0, 256, mask.shape, np.uint8)
    labels, count = ndimage.label(mask, np.ones((3, 3)))

    found = find_components(mask)

    assert len(found) == count
    sums = found.sums(levels)
    slices = ndimage.find_objects(labels)
    for k in range(count):
        pixels = found.mask(np.arange(count) == k)
        (label,) = np.unique(labels[pixels])
        np.testing.assert_array_equal(pixels, labels == label)
        rows, columns = slices[label - 1]
        assert found.boxes[k].tolist() == [rows.start, columns.start, rows.stop, columns.stop]
        assert sums[k] == levels[pixels].sum(dtype=int)


def test_a_spiral_is_one_part():
    mask = np.zeros((101, 101), bool)
    low, high = 0, 100
    while low < high:
        mask[low, low : high + 1] = mask[low : high + 1, high] = mask[high, low : high + 1] = True
        mask[low + 2 : high + 1, low] = True
        mask[low + 2, low : low + 3] = True
        low, high = low + 2, high - 2

    assert len(find_components(mask)) == 1


def test_nothing_has_no_parts():
    found = find_components(np.zeros((5, 7), bool))

    assert len(found) == 0
    assert found.sums(np.ones((5, 7), np.uint8)).tolist() == []
    assert not found.mask(np.zeros(0, bool)).any()
