import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.text_lines import _power, find_lines


def lines_of(boxes, amounts=None):
    """The lines as the numbers of the parts of each mark."""
    boxes = np.array(boxes, np.int64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    found = find_lines(boxes, areas // 3 if amounts is None else np.array(amounts))
    return [[mark.parts.tolist() for mark in line] for line in found]


def box(row, column, height=40, width=24):
    return row, column, row + height, column + width


def test_lines_run_from_top_to_bottom_and_marks_from_left_to_right():
    boxes = [box(100, 60), box(0, 50), box(100, 10), box(4, 10), box(-3, 90)]

    assert lines_of(boxes) == [[[3], [1], [4]], [[2], [0]]]
    assert lines_of([]) == []


@pytest.mark.parametrize("degrees", [-6, -2, 0, 3, 7])
def test_lines_may_run_aslant_and_up_and_down(degrees):
    random = np.random.default_rng(3)
    boxes = []
    for line in range(4):
        for place in range(14):
            level = 70 * line + np.tan(np.deg2rad(degrees)) * 45 * place + 6 * np.sin(place / 2) + random.normal(0, 2)
            boxes.append(box(round(level) + 200, 45 * place))
    order = random.permutation(len(boxes))

    found = lines_of([boxes[k] for k in order])

    assert [[order[part] for (part,) in line] for line in found] == [
        list(range(14 * line, 14 * line + 14)) for line in range(4)
    ]


def test_a_page_of_two_thousand_characters_takes_little_memory():
    boxes = [box(70 * line, 40 * place) for line in range(40) for place in range(50)]
    tracemalloc.start()
    lines = lines_of(boxes)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [len(line) for line in lines] == [50] * 40
    assert most < 20 * 2**20


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_the_power_of_a_direction_is_that_of_all_pairs(places):
    places = np.sort(places)
    apart = np.abs(places[:, None] - places)

    assert _power(places) == pytest.approx(np.maximum(1 - 2 * apart, 0).sum(), abs=1e-9)


def test_characters_of_several_strokes_stay_together():
    letter_i = [box(10, 0, 30, 8), box(-4, 1, 6, 6)]
    equals = [box(12, 40, 5, 26), box(26, 41, 5, 26)]
    five = [box(0, 100, 40, 24), box(-3, 122, 5, 14)]
    two_halves = [box(0, 160, 22, 24), box(23, 161, 18, 24)]
    plain = [box(0, 220), box(0, 260), box(0, 300)]

    (line,) = lines_of(letter_i + equals + five + two_halves + plain)

    assert [sorted(mark) for mark in line] == [[0, 1], [2, 3], [4, 5], [6, 7], [8], [9], [10]]


def test_stacked_lines_are_not_put_together():
    assert lines_of([box(0, 0), box(0, 40), box(50, 0), box(50, 40)]) == [[[0], [1]], [[2], [3]]]


def test_specks_rules_and_shadows_are_no_marks():
    writing = [box(0, 40 * place) for place in range(6)]
    others = [box(80, 30, 3, 3), box(70, 0, 4, 230), box(0, 300, 200, 90), (-60, 0, -20, 300)]

    found = lines_of([*writing, *others], [300] * 6 + [9, 200, 2000, 3000])

    assert found == [[[k] for k in range(6)]]


def test_wide_gaps_are_spaces_and_widths_are_told():
    columns = [0, 32, 64, 130, 162, 230]
    boxes = np.array([box(0, column, 40, 60 if column == 230 else 24) for column in columns], np.int64)

    (line,) = find_lines(boxes, np.full(6, 300))

    assert [mark.after_space for mark in line] == [False, False, False, True, False, True]
    assert [mark.width for mark in line] == pytest.approx([0.6] * 5 + [1.5])
    assert line[5].box == (0, 230, 40, 290)
