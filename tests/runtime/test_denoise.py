import gzip
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from quillrt.runtime.denoise import STEPS, denoise, gaussian, levels, median, otsu, otsu_thresholds
from quillrt.runtime.images import find_images, read_image
from quillrt.runtime.preprocessing import Preprocessing, fit_image, light_ink

STACKS = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
# Ground of 0 to 5 and ink of 40 to 60: three times as bright, and 75 brighter, it still fits into a byte.
WRITING = st.builds(
    lambda ground, ink: np.concatenate([ground, ink], axis=2),
    arrays(np.uint8, (2, 5, 4), elements=st.integers(0, 5)),
    arrays(np.uint8, (2, 5, 3), elements=st.integers(40, 60)),
)


def image(*rows):
    return np.array([rows], np.uint8)


def test_the_median_of_a_row_by_hand():
    """Each row is replicated above and below, so the medians are those of 5 5 100, of 5 100 7 and of 100 7 7."""
    assert median(image([5, 100, 7])).tolist() == [[[5, 7, 7]]]


def test_the_median_takes_a_speck_away_and_rounds_a_corner():
    speck = image([0, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [0, 0, 80, 80], [0, 0, 80, 80])

    # Of the four, the inner one has 4 of 9 at 80; the two at a side, replicated, have 6, the one in the corner all.
    assert median(speck)[0].tolist() == [[0] * 4, [0] * 4, [0] * 4, [0, 0, 0, 80], [0, 0, 80, 80]]


@given(STACKS)
def test_the_median_is_scipys(images):
    for found, original in zip(median(images), images, strict=True):
        np.testing.assert_array_equal(found, ndimage.median_filter(original, 3, mode="nearest"))


def test_the_gaussian_of_a_point_by_hand():
    point = np.zeros((1, 5, 5), np.uint8)
    point[0, 2, 2] = 40

    # A sixteenth of 40 is 2.5 and is rounded up to 3.
    expected = [[0] * 5, [0, 3, 5, 3, 0], [0, 5, 10, 5, 0], [0, 3, 5, 3, 0], [0] * 5]
    assert gaussian(point)[0].tolist() == expected


def test_the_gaussian_mirrors_at_the_outermost_pixel():
    """Around a corner of 3 x 3 the point in the middle stands at all four diagonals; around a side, on both sides."""
    point = np.zeros((1, 3, 3), np.uint8)
    point[0, 1, 1] = 160

    assert gaussian(point).tolist() == [[[40] * 3] * 3]
    assert gaussian(image([0, 160])).tolist() == [[[80, 80]]]


@given(STACKS)
def test_the_gaussian_is_scipys(images):
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    for found, original in zip(gaussian(images), images, strict=True):
        sixteenfold = ndimage.correlate(original.astype(np.int64), kernel, mode="mirror")
        np.testing.assert_array_equal(found, np.floor(sixteenfold / 16 + 0.5))


@given(STACKS)
def test_otsus_threshold_is_the_best_of_all_256(images):
    """By the definition, in fractions: the variance is weight 0 * weight 1 * (mean 0 - mean 1) ** 2."""

    def variance(pixels, threshold):
        ground = [p for p in pixels if p <= threshold]
        ink = [p for p in pixels if p > threshold]
        if not ground or not ink:
            return Fraction(0)
        distance = Fraction(sum(ground), len(ground)) - Fraction(sum(ink), len(ink))
        return len(ground) * len(ink) * distance**2

    histograms = np.stack([np.bincount(one.ravel(), minlength=256) for one in images])
    for found, one in zip(otsu_thresholds(histograms), images, strict=True):
        variances = [variance(one.ravel().tolist(), threshold) for threshold in range(256)]
        assert found == variances.index(max(variances))


def test_ink_and_ground_by_hand():
    """The ground's median is 11, its absolute deviation 1: it ends at 11 + 3 * 1.4826 = 15.4478; the ink is 207.5.

    200 is thus (200 - 15.4478) / (207.5 - 15.4478) * 255 = 245.04.
    """
    row = image([10, 12, 200, 210])

    assert otsu(row).tolist() == [[[0, 0, 255, 255]]]
    assert levels(row).tolist() == [[[0, 0, 245, 255]]]


def test_a_grey_edge_is_ink_to_otsu_and_stays_grey_in_levels():
    """80 is ink, for the split above 20 gives 18 * 86.7 ** 2, the one above 80 but 14 * 91.4 ** 2; 60 % of the way."""
    row = image([20] * 6 + [80, 120, 120])

    assert otsu(row).tolist() == [[[0] * 6 + [255] * 3]]
    assert levels(row).tolist() == [[[0] * 6 + [153, 255, 255]]]


@given(WRITING)
def test_levels_are_numpys_quantiles(images):
    for found, one in zip(levels(images), images, strict=True):
        paper, ink = one[one <= 5], one[one >= 40]
        start = np.median(paper) + 3 * 1.4826 * np.median(np.abs(paper - np.median(paper)))
        expected = np.clip((one - start) / (np.quantile(ink, 0.75) - start), 0, 1) * 255
        np.testing.assert_allclose(found, expected, atol=0.5 + 1e-6)


@given(WRITING, st.integers(1, 3), st.integers(0, 75))
def test_brightness_and_contrast_do_not_matter(images, factor, shift):
    other = images * np.uint8(factor) + np.uint8(shift)

    np.testing.assert_array_equal(otsu(other), otsu(images))
    np.testing.assert_allclose(levels(other).astype(int), levels(images).astype(int), atol=1)


@pytest.mark.parametrize("step", [otsu, levels])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (5, 90)])
def test_one_grey_level_is_blank(step, level, size):
    assert not step(np.full((2, *size), level, np.uint8)).any()


@pytest.mark.parametrize("step", [otsu, levels])
@pytest.mark.parametrize("deviation", [1, 5, 20])
@pytest.mark.parametrize("size", [28, 300])
def test_noise_is_not_blown_up_to_ink_but_a_stroke_in_it_is_seen(step, deviation, size):
    paper = np.random.default_rng(0).normal(60, deviation, (20, size, size))
    written = paper.copy()
    written[:, size // 4 : size // 3, 3:-3] += 7 * deviation + 12

    blank, ink = (step(np.clip(np.rint(each), 0, 255).astype(np.uint8)) for each in (paper, written))
    assert not blank.any()
    assert (np.median(ink[:, size // 4 : size // 3, 3:-3], axis=(1, 2)) > 200).all()
    assert not np.median(ink, axis=(1, 2)).any()


def test_steps_follow_one_another():
    speck = image([0, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [0, 0, 80, 80], [0, 0, 80, 80])

    cleaned = [[0] * 4, [0] * 4, [0] * 4, [0, 0, 0, 255], [0, 0, 255, 255]]
    assert denoise(speck, ("median", "otsu"))[0].tolist() == cleaned
    assert denoise(speck, ("otsu", "median"))[0].tolist() == [[0] * 4] * 5  # 80 is ground beside the speck
    assert denoise(speck, ()) is speck


@pytest.mark.parametrize("step", STEPS)
def test_an_image_among_many_is_cleaned_as_it_is_alone(step):
    images = np.random.default_rng(0).integers(0, 256, (1400, 28, 28), np.uint8)  # more than are handled at once
    images[:, 5:20, 10:14] = 255

    together = denoise(images, (step,))
    assert (together != images).any(axis=(1, 2)).all()
    for i in (0, 1336, 1337, 1399):
        np.testing.assert_array_equal(together[i], denoise(images[i : i + 1], (step,))[0])


@pytest.mark.parametrize("step", STEPS)
def test_no_images_are_no_trouble(step):
    assert denoise(np.empty((0, 28, 28), np.uint8), (step,)).shape == (0, 28, 28)


def data(*parts):
    path = Path(os.environ.get("QUILLRT_DATA", ""), *parts)
    if not os.environ.get("QUILLRT_DATA") or not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in QUILLRT_DATA")
    return path


@pytest.mark.data
def test_levels_take_the_paper_off_every_real_photograph():
    files = list(find_images([data("photos")]))
    assert len(files) > 100
    for file in files:
        photo = read_image(file)
        turned = light_ink(photo[None])
        clean = levels(turned)[0]
        assert border(turned[0]) > 30  # grey paper
        assert border(clean) <= 3  # 0 on all but one of 460, which is lit unevenly
        assert clean.max() == 255
        fitted = fit_image(photo, Preprocessing(denoise=("levels",)))
        assert border(fitted) == 0
        assert fitted.max() > 190  # scaling averages thin strokes


def border(photo):
    return np.median(np.concatenate([photo[0], photo[-1], photo[:, 0], photo[:, -1]]))


@pytest.mark.data
def test_levels_change_mnists_clean_images_little():
    packed = gzip.decompress(data("MNIST", "raw", "train-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(packed, np.uint8, offset=16).reshape(-1, 28, 28)[:2000]

    change = np.abs(denoise(images, ("levels",)).astype(int) - images)
    assert 0 < change.mean() < 0.5  # of 255
    assert np.percentile(change[images > 0], 99) <= 10
