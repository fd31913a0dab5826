import numpy as np
import pytest
from paper import Paper, pen
from PIL import Image

from quillrt.runtime.background import flatten
from quillrt.runtime.ruled_lines import take_lines_off


def ruled(height=300, width=400, slope=0.0, every=40, thickness=2, level=70):
    """Ink of level lines that rise by ``slope``, uint8 (H, W)."""
    rows, columns = np.mgrid[:height, :width]
    place = (rows - slope * (columns - width / 2) + every / 2) % every
    return np.where(place < thickness, level, 0).astype(np.uint8)


@pytest.mark.parametrize("slope", [0, 0.03, -0.07])
@pytest.mark.parametrize("size", [(300, 400), (700, 1000), (64, 64), (90, 110)])
def test_lines_are_taken_off_and_strokes_stay(size, slope):
    lines = np.maximum(ruled(*size, slope, max(15, size[0] // 8)), ruled(*size[::-1], -slope, max(15, size[1] // 8)).T)
    stroke = np.zeros(size, bool)
    top, left = size[0] // 4, size[1] // 3
    stroke[top : top + size[0] // 5, left : left + 4] = True
    stroke[top : top + 4, left : left + size[1] // 6] = True
    written = np.where(stroke, 200, lines).astype(np.uint8)

    found = take_lines_off(written, mend=True)

    assert found.lines.any()
    assert (found.ink[~stroke & (lines > 0)] < 30).mean() > 0.9
    assert (found.ink[stroke] > 60).mean() > 0.8


def test_the_bar_of_a_letter_is_no_line():
    letter = np.zeros((60, 60), np.uint8)
    letter[10:14, 8:52] = letter[10:50, 28:32] = 180  # a T that fills its crop

    found = take_lines_off(letter, mend=True)

    assert not found.lines.any()
    np.testing.assert_array_equal(found.ink, letter)


@pytest.mark.parametrize(("level", "is_line"), [(4, False), (6, True)])
def test_the_palest_lines_have_ink_of_more_than_four_levels(level, is_line):
    ink = ruled(80, 100, 0.02, 30, 2, level)
    ink[30:50, 40:44] = 200

    assert take_lines_off(ink, mend=True).lines.any() == is_line


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_stroke_to_one_edge_is_no_line(side):
    ink = np.zeros((64, 64), np.uint8)
    ink[30:33, 12:] = 180

    assert not take_lines_off(ink if side == "right" else ink[:, ::-1], mend=True).lines.any()


def test_gaps_where_a_dark_line_crosses_are_mended():
    ink = ruled(120, 120, 0, 60, 4, 180)
    ink[20:100, 58:64] = 180

    assert take_lines_off(ink, mend=False).ink[20:100, 60].min() < 40
    assert take_lines_off(ink, mend=True).ink[20:100, 60].min() > 150


def test_paper_without_lines_has_none():
    paper = Paper(400, 500, shadow=0.4, vignette=0.6)
    grey = np.asarray(Image.fromarray(paper.photograph((pen("7", 120, 8), 100, 150))).convert("L"))

    assert not take_lines_off(flatten(grey, 25, calm=True), mend=False).lines.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 9), (3, 400)])
def test_an_image_too_small_for_lines_stays(size):
    ink = np.full(size, 90, np.uint8)

    np.testing.assert_array_equal(take_lines_off(ink, mend=True).ink, ink)
