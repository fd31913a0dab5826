import gzip
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import center_of_mass, median_filter

from quillrt.runtime.errors import SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import (
    Preprocessing,
    centre_character,
    fit_each,
    fit_image,
    fit_images,
    normalize,
    resize,
)

# Ink of 1 to 40 pixels a side: every pixel is ground or ink that counts, with at least one of ink.
INK = arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.one_of(st.just(0), st.integers(32, 255))
).filter(np.any)


def box(image):
    """Return first row, first column, height and width of what is not black."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_mnists_published_mean_and_deviation_give_the_well_known_extremes():
    batch = normalize(np.array([[[0, 255]]], np.uint8), Preprocessing(1, 2, mean=0.1307, std=0.3081))

    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, [[[[-0.4242129, 2.8214867]]]], rtol=1e-6)


@given(st.floats(-2, 2), st.floats(0.01, 10), arrays(np.uint8, (2, 3, 4)))
def test_normalize_is_its_formula_on_each_pixel(mean, std, images):
    batch = normalize(images, Preprocessing(3, 4, mean, std), channels=3)

    assert batch.shape == (2, 3, 3, 4)
    for n, channel, row, column in np.ndindex(*batch.shape):
        assert batch[n, channel, row, column] == np.float32((int(images[n, row, column]) / 255 - mean) / std)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 28, 28), np.float32), np.zeros((28, 28), np.uint8), np.zeros((1, 28, 27), np.uint8)]
)
def test_normalize_refuses_images_of_another_type_or_size(images):
    with pytest.raises(SpecError, match=r"must be uint8 of shape \(N, 28, 28\)"):
        normalize(images, Preprocessing())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 0}, "0 x 28"),
        ({"width": -1}, "28 x -1"),
        ({"std": 0.0}, "std positive"),
        ({"std": float("nan")}, "std positive"),
        ({"mean": float("inf")}, "mean must be finite"),
        ({"fit": "stretch"}, "one of character, emnist, resize, but is 'stretch'"),
        (
            {"denoise": ("levels", "sharpen", "blur")},
            "out of median, gaussian, otsu, levels, but has 'sharpen', 'blur'",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings, message):
    with pytest.raises(SpecError, match=message):
        Preprocessing(**settings)


def test_a_small_square_fills_the_box_at_the_centre():
    paper = np.zeros((50, 90), np.uint8)
    paper[3:13, 70:80] = 200

    expected = np.zeros((28, 28), np.uint8)
    # Rows 4 to 23 have their mean at 13.5, rows 5 to 24 at 14.5: as near to 14; Python rounds 4.5 to 4.
    expected[4:24, 4:24] = 200
    np.testing.assert_array_equal(centre_character(paper), expected)


def test_a_stroke_larger_than_the_field_keeps_its_aspect():
    paper = np.zeros((700, 300), np.uint8)
    paper[50:650, 100:250] = 255  # 600 x 150 becomes 20 x 5

    centred = centre_character(paper)

    assert box(centred) == (4, 12, 20, 5)  # columns 12 to 16 have their mean at 14
    assert (centred[4:24, 12:17] == 255).all()


def test_a_single_pixel_becomes_a_box():
    paper = np.zeros((9, 9), np.uint8)
    paper[8, 0] = 77

    centred = centre_character(paper)

    assert box(centred) == (4, 4, 20, 20)
    assert (centred[4:24, 4:24] == 77).all()


@pytest.mark.parametrize(
    ("stem", "top"),
    [
        (4, 7),  # 40 pixels in the bar at row 0.5, 72 in the stem at 10.5: the mean is 6.93, and 14 - 6.93 is 7.07
        (2, 8),  # mean 5.24: its top should be 9, but 20 rows of 28 can begin in row 8 at most
    ],
)
def test_a_character_is_centred_by_its_mass_and_kept_in_the_field(stem, top):
    paper = np.zeros((20, 20), np.uint8)
    paper[:2] = 255
    paper[:, 10 - stem // 2 : 10 + stem // 2] = 255

    assert box(centre_character(paper)) == (top, 4, 20, 20)


@given(INK)
def test_the_centre_of_mass_is_in_the_middle_or_the_ink_at_the_edge(ink):
    centred = centre_character(ink)
    top, left, height, width = box(centred)

    assert max(height, width) == 20
    for centre, start, size in zip(center_of_mass(centred), (top, left), (height, width), strict=True):
        assert abs(centre - 14) <= 0.5 + 1e-9 or start == 0 or start + size == 28


@given(INK)
def test_the_aspect_is_kept_to_a_pixel(ink):
    _, _, height, width = box(ink)
    _, _, centred_height, centred_width = box(centre_character(ink))

    assert centred_height == pytest.approx(max(1, 20 * min(1, height / width)), abs=0.5)
    assert centred_width == pytest.approx(max(1, 20 * min(1, width / height)), abs=0.5)


@given(INK, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_where_on_the_paper_a_character_stands_does_not_matter(ink, above, below, left, right):
    np.testing.assert_array_equal(centre_character(np.pad(ink, ((above, below), (left, right)))), centre_character(ink))


@given(INK)
def test_dark_ink_on_light_paper_is_turned(ink):
    light = np.pad(ink, 20)

    np.testing.assert_array_equal(fit_image(255 - light, Preprocessing()), fit_image(light, Preprocessing()))


@pytest.mark.parametrize("level", [0, 31, 255])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (5, 90), (300, 200)])
def test_a_blank_image_stays_blank(level, size):
    fitted = fit_image(np.full(size, level, np.uint8), Preprocessing())

    assert fitted.shape == (28, 28)
    assert fitted.max() <= 31


def test_a_speck_that_vanishes_in_scaling_leaves_a_blank_image():
    paper = np.zeros((4000, 4000), np.uint8)
    paper[0, 0] = paper[-1, -1] = 32  # averaged over 200 x 200 pixels each

    assert not centre_character(paper).any()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 56), (7, 7), (1, 1)])
def test_other_fields_have_a_box_of_five_sevenths(height, width):
    paper = np.zeros((30, 30), np.uint8)
    paper[5:25, 5:25] = 255

    fitted = fit_image(paper, Preprocessing(height, width))

    assert fitted.shape == (height, width)
    side = max(1, round(min(height, width) * 5 / 7))
    assert box(fitted)[2:] == (side, side)


def test_an_image_of_the_right_size_is_taken_as_it_is():
    corner = np.zeros((28, 28), np.uint8)
    corner[:5, :5] = 255

    np.testing.assert_array_equal(fit_image(corner, Preprocessing()), corner)


def test_resize_takes_the_picture_as_it_is_and_averages_when_it_shrinks():
    halves = np.full((40, 40), 250, np.uint8)
    halves[:, 20:] = 50
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 200

    np.testing.assert_array_equal(fit_image(halves, Preprocessing(1, 4, fit="resize"))[0, [0, 3]], [250, 50])
    np.testing.assert_allclose(resize(stripes, 8, 8)[1:-1], 100, atol=1)


def as_they_came(images):
    return ImageSet(images, np.zeros(len(images), np.int64), ("a",))


@pytest.mark.parametrize("size", [(40, 30), (28, 28)])
@pytest.mark.parametrize("fit", ["character", "resize"])
@pytest.mark.parametrize("denoise", [(), ("median",), ("gaussian", "levels")])
def test_a_data_set_is_fitted_image_by_image(size, fit, denoise):
    images = np.random.default_rng(0).integers(0, 100, (6, *size), np.uint8)
    images[:, 8:20, 10:15] = 255
    images[::2] = 255 - images[::2]  # dark ink among light
    recipe = Preprocessing(fit=fit, denoise=denoise)

    fitted = fit_images(as_they_came(images), recipe)

    assert fitted.shape == (6, 28, 28)
    assert all((a == fit_image(b, recipe)).all() for a, b in zip(fitted, images, strict=True))


def test_what_is_fitted_is_not_fitted_again():
    images = as_they_came(np.full((2, 28, 28), 200, np.uint8))
    recipe = Preprocessing(denoise=("levels",))
    fitted = replace(images, images=images.images + np.uint8(1), fitted=recipe)

    assert fit_images(fitted, replace(recipe, mean=0.5, std=0.1)) is fitted.images
    assert not fit_images(images, recipe).any()  # as levels makes what is blank


@pytest.mark.parametrize("change", [{"denoise": ()}, {"denoise": ("levels", "median")}, {"fit": "resize"}])
def test_what_another_recipe_fitted_is_refused(change):
    recipe = Preprocessing(denoise=("median", "levels"))
    images = replace(as_they_came(np.zeros((2, 28, 28), np.uint8)), fitted=replace(recipe, **change))

    with pytest.raises(
        SpecError, match=r"^expected images as they came, or fitted by .*, found ones fitted by .*; load"
    ):
        fit_images(images, recipe)


def test_noise_is_gone_before_the_box_is_sought():
    paper = np.zeros((60, 60), np.uint8)
    paper[20:40, 25:35] = 255
    dirty = paper.copy()
    dirty[[2, 50], [3, 55]] = 200  # specks that would widen the box

    expected = fit_image(np.asarray(median_filter(paper, 3)), Preprocessing())
    np.testing.assert_array_equal(fit_image(dirty, Preprocessing(denoise=("median",))), expected)
    assert (fit_image(dirty, Preprocessing()) != expected).any()


def test_a_photographs_ground_is_taken_off_after_it_is_turned():
    paper = np.full((60, 60), 190, np.uint8)
    paper[20:40, 25:35] = 90

    fitted = fit_image(paper, Preprocessing(denoise=("levels",)))

    assert box(fitted) == (4, 10, 20, 10)  # columns 9 to 18 have their mean at 13.5, as near to 14
    assert (fitted[4:24, 10:20] == 255).all()


def test_an_image_of_the_right_size_is_cleaned_but_not_boxed_again():
    corner = np.full((28, 28), 40, np.uint8)
    corner[:5, :5] = 140

    expected = np.where(corner == 140, 255, 0)
    np.testing.assert_array_equal(fit_image(corner, Preprocessing(denoise=("levels",))), expected)


def test_a_recipe_survives_json_and_older_ones_had_no_denoising():
    recipe = Preprocessing(14, 20, 0.25, 0.5, "resize", ("median", "levels"))
    plain = json.loads(json.dumps(asdict(recipe)))

    assert plain.pop("denoise") == ["median", "levels"]
    assert Preprocessing.from_json({**plain, "denoise": ["median", "levels"]}) == recipe
    assert Preprocessing.from_json(plain) == replace(recipe, denoise=())


@pytest.mark.data
def test_mnists_own_images_come_out_as_they_were_made():
    path = Path(os.environ.get("QUILLRT_DATA", "")) / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    if not path.is_file():
        pytest.skip("MNIST/raw/t10k-images-idx3-ubyte.gz is not in QUILLRT_DATA")
    images = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)[:2000]
    # Where the outermost pixels are fainter than what counts as ink, the box is cut a pixel short.
    clear = [image for image in images if box(image) == box(image >= 32)]

    assert len(clear) > 0.75 * len(images)
    for image in clear:
        np.testing.assert_array_equal(centre_character(np.pad(image, ((20, 7), (3, 31)))), image)


def test_emnist_fit_by_hand():
    """A bar of 6 x 3 pixels grows fourfold to 24 x 12; its box, 2 pixels below the edge, is centred by its sides."""
    image = np.zeros((40, 50), np.uint8)
    image[5:11, 40:43] = 255
    fitted = fit_image(image, Preprocessing(fit="emnist"))
    rows, columns = np.flatnonzero(fitted.any(axis=1)), np.flatnonzero(fitted.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 25, 8, 19)


def test_emnist_fit_ignores_where_the_mass_is():
    image = np.zeros((32, 40), np.uint8)
    image[4:28, 9] = image[4:8, 9:33] = 255  # a Γ of 24 x 24: its mass is up and left
    fitted = fit_image(image, Preprocessing(fit="emnist"))
    np.testing.assert_array_equal(fitted[2:26, 2:26], image[4:28, 9:33])
    assert fit_image(image, Preprocessing(fit="character"))[:6].sum() == 0  # MNIST's moves it down


@pytest.mark.data
def test_emnist_fit_is_what_emnist_did():
    """Real letters, enlarged and moved, come back in the place where EMNIST has them."""
    root = Path(os.environ.get("QUILLRT_DATA", "none"))
    if not (root / "EMNIST").is_dir():
        pytest.skip("no EMNIST in QUILLRT_DATA")
    from quillrt.train.datasets import load_dataset

    splits = load_dataset("emnist-letters", root)
    assert splits.preprocessing.fit == "emnist"
    moved, grown = [], []
    for image in splits.validation.images[:50]:
        photo = np.zeros((140, 150), np.uint8)
        photo[10:122, 30:142] = np.asarray(Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC))
        again = fit_image(photo, replace(splits.preprocessing, mean=0, std=1))
        (middle, longest), (their_middle, their_longest) = _place(again), _place(image)
        moved.append(np.abs(np.subtract(middle, their_middle)).max())
        grown.append(abs(longest - their_longest))
    assert np.quantile(moved, 0.9) <= 1  # pixels; a few letters have ink too faint for a box
    assert np.quantile(grown, 0.9) <= 2


def _place(image):
    """Return the middle of the ink's box, (row, column), and its longer side, in pixels."""
    ends = [np.flatnonzero((image >= 64).any(axis=axis))[[0, -1]] for axis in (1, 0)]
    return [(first + last) / 2 for first, last in ends], max(last - first + 1 for first, last in ends)


@pytest.mark.parametrize("fit", ["character", "resize"])
@pytest.mark.parametrize("sizes", [[], [(28, 28), (28, 28), (28, 20), (1, 60), (28, 28)], 3 * [(800, 900)]])
def test_images_fitted_together_are_what_they_are_alone(sizes, fit):
    random, recipe = np.random.default_rng(0), Preprocessing(fit=fit, denoise=("levels",))
    images = [random.integers(0, 256, size, np.uint8) for size in sizes]

    fitted = fit_each(iter(images), recipe)

    assert fitted.shape == (len(images), 28, 28)
    for one, image in zip(fitted, images, strict=True):
        np.testing.assert_array_equal(one, fit_image(image, recipe))
