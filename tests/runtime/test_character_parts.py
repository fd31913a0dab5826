import numpy as np

from quillrt.runtime.character_parts import find_character


def blank():
    return np.zeros((100, 120), np.uint8)


def test_a_character_of_several_strokes_is_one_and_a_speck_is_none():
    ink = blank()
    ink[30:35, 50:70] = 200  # the bar of a 5,
    ink[40:80, 50:55] = 200  # apart from the rest
    ink[62, 62:64] = 200  # a speck beside it
    ink[10:12, 100:102] = 200

    found = find_character(ink, is_crop=False)

    assert found.box == (30, 50, 80, 70)
    assert found.chosen.sum() == 2


def test_what_is_faint_throughout_is_no_part_of_it():
    ink = blank()
    ink[30:80, 50:55] = 200
    ink[40:70, 58:60] = 50  # what is left of a line

    assert find_character(ink, is_crop=False).box == (30, 50, 80, 55)


def test_what_is_faint_and_hangs_together_with_strong_ink_is():
    ink = blank()
    ink[30:60, 50:55] = 200
    ink[60:80, 50:55] = 60

    assert find_character(ink, is_crop=False).box == (30, 50, 80, 55)


def test_a_shadow_at_the_edge_is_no_character():
    ink = blank()
    ink[20:60, 90:] = 120  # more ink than
    ink[40:80, 30:34] = 150

    assert find_character(ink, is_crop=False).box == (40, 30, 80, 34)


def test_the_character_may_touch_the_edge_of_a_crop():
    ink = blank()
    ink[20:, 50:60] = 150
    ink[40:44, 10:16] = 150

    assert find_character(ink, is_crop=True).box == (20, 50, 100, 60)


def test_what_is_expected_is_taken_for_more_than_its_ink():
    ink = blank()
    ink[20:80, 20:40] = 150
    ink[40:70, 90:94] = 150

    assert find_character(ink, is_crop=False).box == (20, 20, 80, 40)
    assert find_character(ink, is_crop=False, expected=(35, 85, 75, 100)).box == (40, 90, 70, 94)


def test_blank_paper_has_no_character():
    assert find_character(blank(), is_crop=False) is None
    assert find_character(np.random.default_rng(0).integers(0, 6, (90, 90), np.uint8), is_crop=True) is None
