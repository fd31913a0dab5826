import os
from pathlib import Path

import numpy as np
import pytest
from paper import pen

from quillrt.runtime.preprocessing import resize
from quillrt.runtime.stroke_width import mean_width, usual_strokes


@pytest.mark.parametrize("width", [2, 5, 9])
def test_the_width_of_a_bar_is_that_of_an_outline_in_all_directions(width):
    bar = np.zeros((200, 40), np.uint8)
    bar[20:180, 10 : 10 + width] = 255

    # Twice the area over the outline: 2 * 160 w / (2 * 160 + 2 w), by 4 / pi for outlines of one direction alone.
    assert mean_width(bar) == pytest.approx(4 / np.pi * 160 * width / (160 + width), rel=0.01)


def test_the_width_of_a_ring_is_its_own():
    y, x = np.mgrid[-50:51, -50:51]
    radius = np.hypot(x, y)
    ring = np.rint(255 * np.clip(3.5 - np.abs(radius - 40), 0, 1)).astype(np.uint8)  # 6 pixels, with grey edges

    assert mean_width(ring) == pytest.approx(6, rel=0.06)
    assert mean_width(np.zeros((4, 4), np.uint8)) == 0


@pytest.mark.parametrize(("width", "expected"), [(2, 0.09), (3, 0.09), (10, None), (26, 0.20)])
def test_strokes_are_brought_into_the_usual_range(width, expected):
    ink = np.rint(255 * pen("0", 100, width)).astype(np.uint8)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    brought = usual_strokes(ink)

    if expected is None:  # in between it stays as it is
        np.testing.assert_array_equal(brought, resize(ink, 80, round(80 * ink.shape[1] / len(ink))))
    else:
        assert mean_width(brought) / 80 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    "ink", [np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8), np.full((2, 90), 9, np.uint8)]
)
def test_anything_can_be_given(ink):
    assert max(usual_strokes(ink).shape) >= 80


@pytest.mark.data
def test_nine_of_ten_mnist_digits_are_in_the_range():
    from quillrt.train.torchvision_files import read_source

    folder = os.environ.get("QUILLRT_DATA", "")
    if not folder or not (Path(folder) / "MNIST").is_dir():
        pytest.skip("MNIST is not in QUILLRT_DATA")
    train, _ = read_source("mnist", Path(folder))
    widths = []
    for image in train.images[:500]:
        rows, columns = np.flatnonzero((image >= 32).any(axis=1)), np.flatnonzero((image >= 32).any(axis=0))
        box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        scale = 80 / max(box.shape)
        widths.append(mean_width(resize(box, round(box.shape[0] * scale), max(1, round(box.shape[1] * scale)))) / 80)
    assert np.mean([0.09 <= width <= 0.20 for width in widths]) > 0.85
