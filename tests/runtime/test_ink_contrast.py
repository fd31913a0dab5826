import numpy as np
import pytest
from paper import INKS, Paper, pen
from PIL import Image

from quillrt.runtime.ink_contrast import InkMix, find_mix


def sheet(paper, ink, height=120, width=160):
    pixels = np.full((height, width, 3), paper, np.uint8)
    pixels[30:90, 40:45] = pixels[30:35, 40:100] = ink
    pixels = pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("paper", "ink", "blind", "light_ink"),
    [
        ((240, 240, 240), (230, 30, 40), "red", False),  # red ink: nothing in the red channel
        ((240, 240, 240), (230, 225, 20), "green", False),  # a yellow marker: blue alone
        ((240, 240, 240), (60, 90, 235), "blue", False),
        ((20, 30, 90), (220, 60, 90), "blue", True),  # red on dark blue
    ],
)
def test_ink_is_seen_where_it_stands_out(paper, ink, blind, light_ink):
    image = sheet(paper, ink)

    mix = find_mix(image)

    assert sum(mix.weights) == pytest.approx(1)
    assert mix.weights[("red", "green", "blue").index(blind)] < 0.33  # less than an even share
    assert mix.light_ink is light_ink
    grey = mix.grey(image).astype(int)
    assert grey[10, 10] - grey[60, 42] > 90  # always dark ink on light paper


def test_pale_squares_do_not_hide_ink():
    paper = Paper(ruling="squares", line="blue", ink="red", noise=0.5)
    image = Image.fromarray(paper.photograph((pen("5", 90, 6), 90, 100)))

    red, green, blue = find_mix(image).weights

    assert red < 0.15  # where the squares are, and the ink is not
    assert green + blue > 0.85


@pytest.mark.parametrize("is_board", [False, True])
@pytest.mark.parametrize("shadow", [0.0, 0.5])
@pytest.mark.parametrize("label", ["0", "1", "8"])
def test_light_ink_is_told_from_dark(label, shadow, is_board):
    paper = Paper(shadow=shadow, is_board=is_board, vignette=0.5, seed=int(label))
    image = Image.fromarray(paper.photograph((pen(label, 100, 8), 90, 150)))

    assert find_mix(image).light_ink is is_board


@pytest.mark.parametrize("label", ["0", "1", "8"])
@pytest.mark.parametrize("is_light", [False, True])
def test_light_ink_is_told_from_dark_on_a_crop(label, is_light):
    ink = np.rint(255 * np.pad(pen(label, 36, 6), 4)).astype(np.uint8)

    assert find_mix(Image.fromarray(ink if is_light else 255 - ink)).light_ink is is_light


def test_the_weights_are_fishers():
    paper, ink = np.random.default_rng(1).normal([220, 200, 210], [3, 5, 4], (64, 64, 3)), (60, 90, 180)
    paper[20:24, 10:50] = ink
    image = Image.fromarray(paper.round().clip(0, 255).astype(np.uint8))

    found = np.array(find_mix(image).weights)

    # The closing of the ground is nearly even: its contrast's deviation is the noise's own.
    fisher = (np.array([220, 200, 210]) - ink) / (np.array([3, 5, 4]) + 2.0) ** 2
    np.testing.assert_allclose(found, fisher / fisher.sum(), atol=0.05)


def test_a_grey_image_stays_what_it_is():
    levels = np.arange(200, dtype=np.uint8).reshape(10, 20)

    np.testing.assert_array_equal(InkMix((1, 0, 0), False).grey(Image.fromarray(levels)), levels)
    np.testing.assert_array_equal(InkMix((1, 0, 0), True).grey(Image.fromarray(levels)), 255 - levels)


def test_every_ink_of_the_made_up_papers_is_dark():
    for ink in INKS:
        image = Image.fromarray(Paper(ink=ink).photograph((pen("3", 90, 6), 90, 100)))
        assert not find_mix(image).light_ink
