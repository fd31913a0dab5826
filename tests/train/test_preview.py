import numpy as np
import pytest

from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, fit_images
from quillrt.train.datasets import Splits
from quillrt.train.policies import POLICIES, Augmentation
from quillrt.train.preview import varied


@pytest.fixture
def stripes():
    """Eight images of classes a and b, the first five all a; image i is of grey level 10 (i + 1) all over."""
    levels = 10 * np.arange(1, 9, dtype=np.uint8)
    part = ImageSet(levels.repeat(16).reshape(8, 4, 4), np.array([0, 0, 0, 0, 0, 1, 0, 1]), ("a", "b"))
    return Splits(part, part, part, Preprocessing(height=4, width=4, fit="resize"))


def test_classes_take_turns_while_they_last(stripes):
    sheet, captions = varied(stripes, Augmentation(), images=7, draws=1, seed=0)
    assert captions == ["a", "", "b", "", "a", "", "b", "", "a", "", "a", "", "a", ""]
    assert sheet[::2, 0, 0].tolist() == [10, 60, 20, 80, 30, 40, 50]


def test_without_augmentation_every_column_is_the_image_itself(stripes):
    sheet, _ = varied(stripes, Augmentation(), images=3, draws=4, seed=0)
    assert (sheet.reshape(3, 5, 4, 4) == sheet[::5, None]).all()


def test_more_images_than_there_are_are_all(stripes):
    sheet, captions = varied(stripes, Augmentation(), images=100, draws=2, seed=0)
    assert sheet.shape == (8 * 3, 4, 4)
    assert len(captions) == 24


def test_the_first_column_is_the_image_as_the_network_gets_it(digits):
    """The digits' first four classes, fitted by the recipe; whatever follows each differs from it and from the rest."""
    sheet, captions = varied(digits, POLICIES["strong"], images=4, draws=5, seed=0)
    first = [int(np.flatnonzero(digits.train.labels == label)[0]) for label in range(4)]
    columns = sheet.reshape(4, 6, 28, 28)
    np.testing.assert_array_equal(columns[:, 0], fit_images(digits.train.take(np.array(first)), digits.preprocessing))
    assert captions[::6] == ["0", "1", "2", "3"]
    for row in columns:
        assert len({image.tobytes() for image in row}) == 6


def test_a_seed_repeats_the_sheet(digits):
    found = [varied(digits, POLICIES["photo"], images=2, draws=2, seed=seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
