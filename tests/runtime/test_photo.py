import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper import Paper, pen
from PIL import Image

from quillrt.runtime.channels import channels
from quillrt.runtime.photo import look


def overlap(box, other):
    """Intersection over union."""
    top, left, bottom, right = np.maximum(box, other)[:2].tolist() + np.minimum(box, other)[2:].tolist()
    both = max(0, bottom - top) * max(0, right - left)
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, other)]
    return both / (sum(areas) - both)


def tight(ink):
    rows, columns = np.flatnonzero((ink > 127).any(axis=1)), np.flatnonzero((ink > 127).any(axis=0))
    return Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


SHEETS = {
    "plain": {},
    "squares": {"ruling": "squares", "turn": 3, "shadow": 0.5, "vignette": 0.6, "specks": 6},
    "seen aslant": {"ruling": "squares", "turn": -4, "perspective": 0.2, "ink": "blue"},
    "ruled dark": {"ruling": "ruled", "line": "dark", "thickness": 2.5, "turn": 2, "ink": "red"},
    "soft shadow": {"shadow": 0.6, "soft": 60, "ink": "green"},
    "pencil": {"ruling": "squares", "line": "grey", "ink": "pencil", "specks": 4},
    "blackboard": {"is_board": True, "shadow": 0.3},
}


@pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS.keys())
@pytest.mark.parametrize("label", ["1", "4", "5", "8"])
def test_the_character_is_found_where_it_is(sheet, label):
    paper = Paper(450, 600, seed=int(label), **sheet)
    ink = pen(label, 100, 7)
    image = Image.fromarray(paper.photograph((ink, 120, 260)))
    rows, columns = np.flatnonzero((ink > 0.5).any(axis=1)), np.flatnonzero((ink > 0.5).any(axis=0))

    found = look(image)

    box = np.array([120 + rows[0], 260 + columns[0], 121 + rows[-1], 261 + columns[-1]])
    assert overlap(np.array(found.box), box) > 0.7
    alone = found.close.character()
    assert alone.dtype == np.uint8
    assert alone.max() == 255
    assert np.median(alone[:, [0, -1]]) == 0  # nothing around it
    seen, drawn = (tight(each).resize((60, 100)) for each in (alone, np.rint(255 * ink).astype(np.uint8)))
    likeness = np.corrcoef(np.asarray(seen).ravel(), np.asarray(drawn).ravel())[0, 1]
    assert likeness > 0.75


@pytest.mark.parametrize("desk", [(60, 25, 70), (140, 110, 70), (20, 20, 20)])
@pytest.mark.parametrize("turn", [-3, 0, 2])
def test_the_desk_around_the_sheet_does_not_matter(desk, turn):
    paper = Paper(400, 520, ruling="squares", shadow=0.4, ink="red", seed=turn + 5)
    sheet = Image.fromarray(paper.photograph((pen("3", 90, 6), 60, 120)))
    photograph = Image.new("RGB", (660, 520), desk)
    hole = Image.new("L", sheet.size, 255).rotate(turn, expand=True)
    photograph.paste(sheet.rotate(turn, Image.Resampling.BICUBIC, expand=True), (60, 50), hole)

    found = look(photograph)

    assert not found.mix.light_ink
    top, left, bottom, right = found.box
    assert 80 < bottom - top < 105
    assert 50 < right - left < 75


def test_large_photographs_are_seen_as_small_ones_are():
    small = Paper(500, 700, ruling="squares", shadow=0.4, seed=3).photograph((pen("3", 120, 8), 200, 300))
    large = Image.fromarray(small).resize((2800, 2000), Image.Resampling.BICUBIC)

    boxes = [look(Image.fromarray(small)).box, look(large).box]

    assert overlap(4 * np.array(boxes[0]), np.array(boxes[1])) > 0.85


@pytest.mark.parametrize("sheet", [{}, {"ruling": "squares"}, {"shadow": 0.5, "soft": 80, "vignette": 0.5}])
@pytest.mark.parametrize("size", [(60, 60), (400, 500)])
def test_blank_paper_has_no_character(sheet, size):
    found = look(Image.fromarray(Paper(*size, **sheet).photograph()))

    assert found.box is None
    assert not found.close.character().any()


def test_the_box_of_a_large_photograph_ends_where_that_does():
    size = (1999, 1501)  # no multiple of the factor by which it is reduced
    pixels = np.full(size, 230, np.uint8)
    pixels[-900:, -500:-480] = pixels[-500:-480, -500:] = 30  # ink up to the edge

    top, left, bottom, right = look(Image.fromarray(pixels)).box

    assert (bottom, right) == size
    assert 0 < size[0] - 900 - top < 10
    assert abs(size[1] - 500 - left) < 10


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["L", "RGB"]), st.integers(0, 3), st.integers(0, 99))
def test_any_image_can_be_looked_at(height, width, mode, kind, seed):
    random = np.random.default_rng(seed)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = [
        np.zeros(shape),
        np.full(shape, 255),
        random.integers(0, 256, shape),
        255 * (random.random(shape) < 0.01),
    ][kind]

    found = look(channels(Image.fromarray(pixels.astype(np.uint8), mode)))

    assert found.close.character().ndim == 2
    if found.box is not None:
        top, left, bottom, right = found.box
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
