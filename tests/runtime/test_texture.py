import math

import numpy as np
import pytest
import scipy.ndimage as ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from quillrt.runtime.texture import FIGURES, figures

IMAGES = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=30))
MOVES = {
    "shifted": lambda images: np.roll(images, (2, -3), (1, 2)),
    "mirrored": lambda images: images[:, :, ::-1],
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
}


def of(image):
    return {name: float(values[0]) for name, values in figures(image[None]).items()}


def field(*squares, side=28):
    image = np.zeros((side, side), np.uint8)
    for top, left, height, width in squares:
        image[top : top + height, left : left + width] = 200
    return image


def test_one_pixel_differs_from_its_four_neighbours_and_from_the_four_behind_them():
    assert of(field((9, 9, 1, 1))) == {"parts": pytest.approx(math.log(2)), "smooth": 0.5, "thick": 0}


def test_an_area_is_thick_and_its_edges_go_on():
    # Each of its 8 rows and 8 columns changes twice from pixel to pixel, and four times two pixels on. Of 8 x 8 pixels
    # those stay that are the middle of 5 x 5.
    assert of(field((4, 6, 8, 8))) == {"parts": pytest.approx(math.log(2)), "smooth": 1, "thick": 16 / 64}


def test_a_hole_takes_a_part_off():
    ring = field((4, 4, 9, 9))
    ring[6:11, 6:11] = 0
    assert of(ring)["parts"] == 0
    ring[8, 8] = 200
    assert of(ring)["parts"] == pytest.approx(math.log(2))
    ring[8, 8] = 90  # below half of the lightest
    assert of(ring)["parts"] == 0


def test_grain_is_many_parts():
    image = np.zeros((28, 28), np.uint8)
    image[2:26:3, 2:26:3] = 255
    assert of(image)["parts"] == pytest.approx(math.log(1 + 64))


@given(IMAGES)
def test_parts_are_those_that_scipy_counts(images):
    half = images.max(axis=(1, 2), keepdims=True) // 2
    expected = []
    for mask in np.pad(images > half, ((0, 0), (1, 1), (1, 1))):
        parts = ndimage.label(mask, np.ones((3, 3)))[1]
        holes = ndimage.label(~mask)[1] - 1
        expected.append(np.log1p(abs(parts - holes)))
    np.testing.assert_allclose(figures(images)["parts"], expected)


@given(IMAGES)
def test_the_rest_is_what_it_is_said_to_be(images):
    side = min(images.shape[1:])
    step, square = max(2, round(side / 14)), max(3, round(side / 6))
    smooth, thick = [], []
    for image in np.pad(images, ((0, 0), (square, square), (square, square))).astype(int):
        near, far = (
            sum(abs(image - ndimage.shift(image, move, order=0)).sum() for move in ((by, 0), (0, by)))
            for by in (1, step)
        )
        smooth.append(far / max(1, step * near))
        thick.append(ndimage.grey_erosion(image, (square, square)).sum() / max(1, image.sum()))
    found = figures(images)
    np.testing.assert_allclose(found["smooth"], smooth)
    np.testing.assert_allclose(found["thick"], thick)


@given(arrays(np.uint8, (3, 20, 17)), st.sampled_from(sorted(MOVES)))
def test_moved_mirrored_and_turned_it_is_as_it_was(images, move):
    framed = np.pad(images, ((0, 0), (4, 4), (4, 7)))
    before, after = figures(framed), figures(np.ascontiguousarray(MOVES[move](framed)))
    for name in FIGURES:
        np.testing.assert_array_equal(before[name], after[name])


@given(IMAGES)
def test_they_keep_within_what_is_promised_and_each_image_has_its_own(images):
    found = figures(images)
    assert tuple(found) == FIGURES
    assert all(np.isfinite(values).all() and (values >= 0).all() for values in found.values())
    assert (found["smooth"] <= 1).all()
    assert (found["thick"] <= 1).all()
    for number, image in enumerate(images):
        assert of(image) == {name: values[number] for name, values in found.items()}


def test_a_larger_drawing_of_the_same_is_about_the_same():
    def disc(side):
        rows, columns = (np.mgrid[:side, :side] + 0.5) / side - 0.5
        away = np.hypot(rows, columns)
        return (255 * np.clip((0.06 - abs(away - 0.25)) * side + 0.5, 0, 1)).astype(np.uint8)

    small, large = of(disc(28)), of(disc(64))
    assert small["parts"] == large["parts"] == 0
    assert small["smooth"] == pytest.approx(large["smooth"], abs=0.08)
    assert small["thick"] == pytest.approx(large["thick"], abs=0.05)


def test_the_largest_image_has_right_figures_too():
    """White all over: its edges go on, and all but a rim is left when the square's darkest counts."""
    found = of(np.full((4096, 4096), 255, np.uint8))
    assert found["smooth"] == 1
    assert found["thick"] == pytest.approx(((4096 - round(4096 / 6) + 1) / 4096) ** 2)


def test_blank_and_no_images_have_figures_too():
    assert of(np.zeros((28, 28), np.uint8)) == {"parts": 0, "smooth": 0, "thick": 0}
    assert {name: values.shape for name, values in figures(np.zeros((0, 28, 28), np.uint8)).items()} == dict.fromkeys(
        FIGURES, (0,)
    )
