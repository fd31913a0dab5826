import numpy as np
import pytest

from quillrt.runtime.background import flatten, log_levels, stroke_window


def test_a_shadow_is_the_same_step_everywhere():
    levels = log_levels(np.array([[60, 120, 240]], np.uint8)).astype(int)[0]

    assert levels[1] - levels[0] == pytest.approx(levels[2] - levels[1], abs=9)  # the offset makes dark steps smaller
    assert log_levels(np.array([[0, 255]], np.uint8)).tolist() == [[0, 255]]


def test_ink_is_the_same_in_the_light_and_in_a_hard_shadow():
    paper = np.full((80, 120), 220.0)
    paper[:, 60:] *= 0.5
    written = paper.copy()
    written[20:60, 20:24] *= 0.2
    written[20:60, 90:94] *= 0.2
    grey = written.round().astype(np.uint8)

    ink = flatten(grey, stroke_window(grey), calm=False)

    assert not ink[written == paper].any()
    in_light, in_shade = ink[40, 21], ink[40, 91]
    # By the formula (paper - ink) / (paper + 14) scaled so that black on 255 is 255: 192 and 181.
    assert in_light == pytest.approx(255 * (220 - 44) / (220 + 14) * (269 / 255), abs=6)
    assert in_shade == pytest.approx(255 * (110 - 22) / (110 + 14) * (269 / 255), abs=6)


def test_light_that_falls_off_towards_the_edge_is_no_ink():
    rows, columns = np.mgrid[:90, :120]
    grey = (230 - 0.9 * rows - 0.6 * columns).astype(np.uint8)

    assert flatten(grey, 31, calm=True).max() <= 3


@pytest.mark.parametrize("width", [3, 6, 12, 25])
def test_the_window_is_broader_than_the_strokes_but_not_much(width):
    grey = np.full((300, 400), 210, np.uint8)
    grey[60:240, 100 : 100 + width] = grey[60 : 60 + width, 100:300] = 40

    assert width < stroke_window(grey) <= 5 * width + 5
