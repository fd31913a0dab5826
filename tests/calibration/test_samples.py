"""Which images calibrate."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from quillrt.calibration.samples import draw_samples, random_samples, sample_hashes
from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing


def images_of(labels: list[int]) -> ImageSet:
    """Images whose first pixel is their index, so that each can be told."""
    images = np.zeros((len(labels), 4, 4), np.uint8)
    images[:, 0, 0] = np.arange(len(labels))
    return ImageSet(images, np.array(labels), ("a", "b", "c"))


def test_classes_are_drawn_equally_often() -> None:
    drawn = draw_samples(images_of([0] * 100 + [1] * 20 + [2] * 30), 30)
    assert np.bincount(drawn.labels).tolist() == [10, 10, 10]


def test_a_small_class_gives_all_it_has_and_the_others_fill_up() -> None:
    drawn = draw_samples(images_of([0] * 100 + [1] * 2 + [2] * 50), 20)
    assert np.bincount(drawn.labels).tolist() == [9, 2, 9]


def test_no_image_twice_and_labels_keep_to_their_images() -> None:
    training = images_of([0, 1, 2] * 30)
    drawn = draw_samples(training, 50)
    chosen = drawn.images[:, 0, 0]
    assert len(set(chosen.tolist())) == 50
    np.testing.assert_array_equal(drawn.labels, training.labels[chosen])


def test_the_seed_decides() -> None:
    training = images_of([0, 1, 2] * 30)
    assert sample_hashes(draw_samples(training, 9, 1)) == sample_hashes(draw_samples(training, 9, 1))
    assert sample_hashes(draw_samples(training, 9, 1)) != sample_hashes(draw_samples(training, 9, 2))


@pytest.mark.parametrize("count", [0, -1, 4])
def test_impossible_counts(count: int) -> None:
    with pytest.raises(CalibrationError, match="expected 1 to 3"):
        draw_samples(images_of([0, 1, 2]), count)


def test_hashes_are_of_the_pixels() -> None:
    training = images_of([0, 1])
    assert sample_hashes(training)[1] == hashlib.sha256(bytes([1]) + bytes(15)).hexdigest()[:16]


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(CalibrationError, match="none of 'b'"):
        draw_samples(images_of([0, 2, 0]), 2)


def test_noise_is_noise_of_the_right_size_and_a_seed_repeats_it() -> None:
    recipe = Preprocessing(height=12, width=9)
    noise = random_samples(("a", "b"), recipe, 50, seed=3)
    assert noise.images.shape == (50, 12, 9)
    assert noise.images.mean() == pytest.approx(127.5, abs=5)
    assert sample_hashes(noise) == sample_hashes(random_samples(("a", "b"), recipe, 50, seed=3))
    assert len(set(sample_hashes(noise))) == 50
