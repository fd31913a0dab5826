import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from quillrt.runtime.windows import closing, highest, lowest, mean, odd

ndimage = pytest.importorskip("scipy.ndimage")

images = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000)).map(
    lambda drawn: np.random.default_rng(drawn[2]).integers(0, 256, drawn[:2], np.uint8)
)
sides = st.sampled_from([1, 3, 5, 9, 15, 31])


@given(images, sides, sides)
def test_highest_and_lowest_are_scipys_filters(image, rows, columns):
    np.testing.assert_array_equal(
        highest(image, rows, columns), ndimage.maximum_filter(image, (rows, columns), mode="constant", cval=0)
    )
    np.testing.assert_array_equal(
        lowest(image, rows, columns), ndimage.minimum_filter(image, (rows, columns), mode="constant", cval=255)
    )


@given(images, sides)
def test_closing_is_scipys_on_an_image_that_goes_on_beyond_its_edge(image, side):
    wide = np.pad(image, 2 * side, "edge")
    expected = ndimage.grey_closing(wide, (side, side))[2 * side : -2 * side, 2 * side : -2 * side]

    np.testing.assert_array_equal(closing(image, side, side), expected)


def test_several_images_are_each_as_it_is_alone():
    images = np.random.default_rng(0).integers(0, 256, (3, 14, 9), np.uint8)

    for slide in (lambda image: highest(image, 5, 3), lambda image: lowest(image, 3, 7), mean):
        np.testing.assert_array_equal(slide(images), np.stack([slide(image) for image in images]))
    np.testing.assert_array_equal(closing(images, 5, 3), np.stack([closing(image, 5, 3) for image in images]))


def test_closing_fills_strokes_and_leaves_the_edges_of_shadows():
    paper = np.full((60, 60), 200, np.uint8)
    paper[:, 40:] = 90  # in the shadow, up to the edge
    written = paper.copy()
    written[20:40, 10:13] = written[30:33, 30:50] = 20

    np.testing.assert_array_equal(closing(written, 7, 7), paper)


@given(images)
def test_mean_is_pillows_box_blur(image):
    np.testing.assert_array_equal(mean(image), np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(1))))


def test_mean_is_that_of_the_square():
    image = np.zeros((9, 9), np.uint8)
    image[4, 4] = 90

    assert mean(image)[3:6, 3:6].tolist() == [[10] * 3] * 3
    assert mean(image).sum() == 90


@pytest.mark.parametrize(("size", "side"), [(0, 3), (3, 3), (4.1, 5), (5, 5), (7.9, 7), (8.1, 9)])
def test_a_side_is_odd(size, side):
    assert odd(size) == side
