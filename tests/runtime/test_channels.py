import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.channels import channels


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "YCbCr", "HSV", "P", "RGBX"])
def test_coloured_modes_become_rgb(mode):
    red = Image.new("RGB", (3, 2), (200, 30, 40))

    found = channels(red.quantize(16) if mode == "P" else red.convert(mode))

    assert found.mode == "RGB"
    np.testing.assert_allclose(np.asarray(found)[0, 0], (200, 30, 40), atol=3)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_modes_become_grey(mode):
    found = channels(Image.new("L", (3, 2), 255).convert(mode))

    assert found.mode == "L"
    assert np.asarray(found).min() == 255


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[1000, 2000, 3000]], np.uint16), [0, 128, 255]),  # twelve bits of sixteen
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.25, 1.0]], np.float32), [0, 64, 255]),
        (np.array([[np.nan, 2.0, 4.0, np.inf]], np.float32), [0, 0, 255, 255]),
        (np.full((1, 2), np.nan, np.float32), [0, 0]),
        (np.full((1, 2), 700, np.uint16), [0, 0]),
    ],
)
def test_more_than_eight_bits_are_scaled_and_not_clipped(levels, expected):
    found = channels(Image.fromarray(levels))

    assert found.mode == "L"
    assert np.asarray(found)[0].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize(("ink", "behind"), [(10, 255), (250, 0)])
def test_ink_on_nothing_gets_a_ground_on_which_it_is_seen(mode, ink, behind):
    drawn = Image.new("LA", (20, 20), (ink, 0))
    drawn.paste((ink, 255), (8, 2, 12, 18))

    found = np.asarray(channels(drawn.convert("RGBA").convert(mode) if mode != "LA" else drawn))

    assert (found[10, 10] == ink).all()
    assert (found[0, 0] == behind).all()


def test_a_hole_in_light_paper_becomes_paper():
    paper = Image.new("RGBA", (20, 20), (220, 220, 220, 255))
    paper.paste((0, 0, 0, 0), (0, 0, 2, 2))

    assert np.asarray(channels(paper))[0, 0].tolist() == [255, 255, 255]
