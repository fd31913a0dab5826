"""Axes and labels, by properties that a reader would notice."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.benchmarks.html_report_svg import (
    Axis,
    Box,
    log_limits,
    number,
    place_labels,
    spread_out,
    tag,
    tick,
    width_of,
)

POSITIVE = st.floats(1e-5, 1e6)


def test_a_linear_axis_has_round_ticks():
    axis = Axis(0.97, 0.999, 100, 0)
    assert [round(each, 4) for each in axis.ticks(6)] == [0.97, 0.975, 0.98, 0.985, 0.99, 0.995]
    assert axis.at(0.97) == 100
    assert math.isclose(axis.at(0.9845), 50)


def test_equal_factors_are_equal_lengths_on_a_logarithmic_axis():
    axis = Axis(1, 100, 0, 200, log=True)
    assert [axis.at(each) for each in (1, 10, 100)] == [0, 100, 200]
    assert axis.at(0) < 0


@given(st.lists(POSITIVE, min_size=1, max_size=9), st.integers(3, 9))
def test_logarithmic_ticks_lie_in_the_axis_and_are_few(values, most):
    low, high = log_limits(values)
    assert low <= min(values)
    assert high >= max(values)
    ticks = Axis(low, high, 0, 1, log=True).ticks(most)
    assert len(ticks) <= most
    assert all(low <= each <= high for each in ticks)
    assert ticks == sorted(set(ticks))


def test_numbers_have_three_digits_and_no_exponent():
    assert [number(each) for each in (0, 0.0671, 0.5, 1.2345, 33.84, 999.4, 12345.6)] == [
        "0", "0.0671", "0.500", "1.23", "33.8", "999", "12,346"
    ]  # fmt: skip
    assert [tick(each) for each in (0.5, 2.0, 100.0, 1000.0)] == ["0.5", "2", "100", "1,000"]


@pytest.mark.parametrize("around", [[], [Box(0, 0, 400, 300)]], ids=["nothing else", "drawn on everywhere"])
def test_labels_keep_apart_where_there_is_room(around):
    points = [(20.0 + 30 * (n % 4), 100.0) for n in range(8)]
    labels = [f"row number {n}" for n in range(8)]
    found = place_labels(points, labels, 12, Box(0, 0, 400, 300), around)
    boxes = [Box(x, y - 12, x + width_of(label, 12), y + 3) for (x, y), label in zip(found, labels, strict=True)]
    assert not any(a.meets(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert all(box.left >= 0 and box.right <= 400 and box.top >= 0 and box.bottom <= 300 for box in boxes)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_positions_are_spread_out_in_their_order(wanted):
    found = spread_out(wanted, 5, 0, 100)
    assert all(-1e-6 <= each <= 100 + 1e-6 for each in found)
    pairs = sorted(zip(wanted, found, strict=True))
    placed = sorted(found)
    assert all(b - a >= 5 - 1e-6 for a, b in pairwise(placed))
    assert all(a[1] <= b[1] for a, b in pairwise(pairs) if a[0] < b[0])


def test_attributes_are_escaped():
    assert tag("a", "x", class_="b", data_value='"<') == '<a class="b" data-value="&quot;&lt;">x</a>'
    assert tag("a", title=None) == "<a></a>"


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 40)), min_size=1, max_size=12))
def test_labels_without_room_stay_inside_all_the_same(points):
    """The frame's titles stand right above it."""
    for left, base in place_labels(points, ["12345"] * len(points), 12, Box(0, 0, 60, 40)):
        assert -1e-6 <= left <= 60 - width_of("12345", 12) + 1e-6
        assert 12 - 1e-6 <= base <= 40 - 3 + 1e-6


def test_a_logarithmic_axis_holds_what_no_machine_does():
    low, high = log_limits([1e-320, 1e308, math.inf])
    axis = Axis(low, high, 0, 100, log=True)
    assert 0 < low < high < math.inf
    assert axis.ticks(5)
    assert 0 <= axis.at(0.0) < axis.at(math.inf) <= 100
