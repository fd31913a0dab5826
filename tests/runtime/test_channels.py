import tracemalloc

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.channels import channels, open_channels
from quillrt.runtime.errors import ImageError


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
        (np.array([[-(2**31), 0, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.full((1, 2), 700, np.uint16), [0, 0]),
    ],
)
def test_more_than_eight_bits_are_scaled_and_not_clipped(levels, expected):
    found = channels(Image.fromarray(levels))

    assert found.mode == "L"
    assert np.asarray(found)[0].tolist() == expected


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_pixels_of_which_nobody_knows_what_is_white_are_refused(mode):
    with pytest.raises(ImageError, match="convert it"):
        channels(Image.new(mode, (3, 2)))


def test_many_levels_take_no_more_memory_than_they_must():
    levels = np.arange(2**20, dtype=np.int32).reshape(2**10, 2**10)
    image = Image.fromarray(levels)
    tracemalloc.start()
    channels(image)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 3 * levels.nbytes  # Pillow's copy, the levels in float32, the result


def test_half_seen_ink_is_mixed_with_its_ground():
    image = Image.new("RGBA", (20, 20), (255, 255, 255, 255))
    image.putpixel((3, 4), (55, 0, 155, 51))  # a fifth

    assert channels(image).getpixel((3, 4)) == (215, 204, 235)


def test_a_file_that_fails_after_it_was_decoded_is_told_as_damaged(monkeypatch, tmp_path):
    Image.new("CMYK", (3, 2)).save(tmp_path / "x.tif")

    def broken(self, *_, **__):
        raise ValueError("no such conversion")

    monkeypatch.setattr(Image.Image, "convert", broken)

    with pytest.raises(ImageError, match=r"^expected a whole image, but x is damaged: no such conversion; copy it"):
        open_channels(tmp_path / "x.tif", "x", 1600)


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
