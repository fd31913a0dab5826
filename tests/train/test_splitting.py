import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.errors import ConfigError
from quillrt.runtime.imageset import ImageSet
from quillrt.train.splitting import hold_out, per_class


def numbered(labels, classes):
    """Images whose one pixel is their number."""
    labels = np.array(labels, np.int64)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None]
    return ImageSet(pixels, labels, tuple(map(str, range(classes))))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 200))
def test_parts_are_disjoint_whole_and_stratified(labels, count):
    images = numbered(labels, 4)
    count = min(count, len(images))
    rest, held = hold_out(images, count)
    numbers = np.concatenate([rest.images.ravel(), held.images.ravel()])
    assert sorted(numbers) == list(range(len(images)))
    for part in (rest, held):
        assert (np.diff(part.images.ravel().astype(int)) > 0).all()
    sizes, taken = (np.bincount(part.labels, minlength=4) for part in (images, held))
    assert ((taken >= 1) == (sizes >= 1)).all()
    assert (np.abs(taken - np.maximum(sizes > 0, count * sizes / len(images))) < 1).all()


def test_largest_remainder_by_hand():
    # 5 of 5 + 3 + 2: 2.5, 1.5 and 1.0 images; of the two halves the first class gets its image.
    _, held = hold_out(numbered([0] * 5 + [1] * 3 + [2] * 2, 3), 5)
    assert np.bincount(held.labels).tolist() == [3, 1, 1]


def test_exact_count():
    _, held = hold_out(numbered(np.arange(250) % 7, 7), 60)
    assert len(held) == 60


def test_parts_never_change():
    """Figures of different versions are comparable only while the same images are held out."""
    _, held = hold_out(numbered([0, 1] * 10, 2), 6)
    assert held.images.ravel().tolist() == [2, 7, 11, 12, 18, 19]


@given(st.integers(1, 5), st.integers(0, 2**63 - 1))
def test_few_per_class_are_balanced_in_order_and_repeatable(count, seed):
    images = numbered([0, 1, 2] * 5 + [0] * 9, 3)
    few = per_class(images, count, seed)
    numbers = few.images.ravel().astype(int)
    assert np.bincount(few.labels).tolist() == [count] * 3
    assert (np.diff(numbers) > 0).all()
    assert (images.labels[numbers] == few.labels).all()
    assert (per_class(images, count, seed).images == few.images).all()


def test_few_per_class_follow_the_seed():
    images = numbered([0, 1] * 50, 2)
    drawn = {tuple(per_class(images, 5, seed).images.ravel()) for seed in range(20)}
    assert len(drawn) == 20
    assert len(set().union(*drawn)) > 80  # twenty draws of 10 leave 100 x 0.9^20 = 12 out


@pytest.mark.parametrize("count", [0, 3])
def test_no_more_per_class_than_there_are(count):
    with pytest.raises(ConfigError, match=rf"expected 1 to 2 images per class, .* '1' has, found {count}"):
        per_class(numbered([0, 0, 0, 1, 1], 2), count, 0)
