import difflib

import numpy as np
import pytest
from paper import PEN, Paper, enlarged, pen
from PIL import Image
from test_prepare import data_folder, mnist

import quillrt.runtime as qr
from quillrt.runtime.annotation import annotate

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model():
    with qr.open("models:digits") as opened:
        yield opened


def written(lines, height=60, gap=0.35, slant=0.0, top=30):
    """Ink and places of text in pen strokes; digits come 1.2 heights apart at spaces."""
    inks = []
    for number, line in enumerate(lines):
        column = 30.0
        for label in line:
            if label == " ":
                column += 1.2 * height
                continue
            ink = pen(label, height, height / 12)
            inks.append((ink, round(top + 1.9 * height * number + slant * column), round(column)))
            column += ink.shape[1] + gap * height
    return inks


PAGES = {
    "plain": {},
    "squares in shadow": {"ruling": "squares", "spacing": 26, "shadow": 0.5, "vignette": 0.5, "specks": 8},
    "ruled": {"ruling": "ruled", "spacing": 55, "line": "dark", "ink": "blue"},
    "blackboard": {"is_board": True},
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
@pytest.mark.parametrize("slant", [0.0, 0.05, -0.04])
def test_lines_and_spaces_are_read(model, page, slant):
    lines = ["0123 456", "78 9", "31 415 9265"]
    sheet = Paper(480, 760, **page).photograph(*written(lines, slant=slant, top=60))

    found = model.read(sheet)

    read = found.text(reject=False).split("\n")
    assert [line.replace(" ", "") for line in read] == [line.replace(" ", "") for line in lines]
    assert read == lines
    assert found.touching == 0


def test_boxes_are_where_the_characters_are_at_any_size(model):
    inks = written(["25 7"])
    sheet = Image.fromarray(Paper(160, 420).photograph(*inks))

    for scale in (1, 6):
        found = model.read(sheet.resize((420 * scale, 160 * scale)))
        boxes = [character.box for line in found.lines for character in line]
        for (ink, top, left), box in zip(inks, boxes, strict=True):
            rows, columns = np.flatnonzero((ink > 0.5).any(axis=1)), np.flatnonzero((ink > 0.5).any(axis=0))
            known = [top + rows[0], left + columns[0], top + rows[-1] + 1, left + columns[-1] + 1]
            np.testing.assert_allclose(np.array(box) / scale, known, atol=4)


def test_characters_that_touch_are_flagged_and_not_invented(model):
    inks = written(["47 800"])
    (ink, top, left) = inks[-1]
    inks[-1] = (ink, top, left - round(0.4 * 60) - 3)  # the last 0 runs into the one before

    found = model.read(Paper(160, 480).photograph(*inks))

    assert found.touching == 1
    assert found.text() == "47 8?"
    assert found.lines[0][-1].doubt() == "touching"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_blank_page_has_no_lines(model, page):
    found = model.read(Paper(400, 500, **page).photograph())

    assert found.lines == ()
    assert found.text() == ""


def test_what_is_read_is_drawn_on_the_page(model):
    sheet = Image.fromarray(Paper(160, 420).photograph(*written(["25 7"])))

    drawn = np.asarray(annotate(sheet, model.read(sheet))).astype(int)

    assert drawn.shape == (160, 420, 3)
    green = (drawn[:, :, 1] - drawn[:, :, 0] > 60).sum()
    assert green > 3 * 2 * (60 + 36) / 2  # three boxes, their outlines a pixel wide


@pytest.mark.data
def test_pages_of_mnist_digits_are_read(model):
    test = mnist(data_folder())
    right = total = flagged = lines = 0
    for seed in range(4):
        random = np.random.default_rng(seed)
        height, text, inks = 46, [], []
        for number in range(4):
            column, line = 25, ""
            while column < 800:
                digit = int(random.integers(len(test)))
                ink = enlarged(test.images[digit], height * random.uniform(0.85, 1.1))
                inks.append((ink, 30 + round(number * 1.8 * height + 0.03 * column), column))
                line += test.classes[test.labels[digit]]
                column += ink.shape[1] + round(height * random.uniform(0.12, 0.4))
                if random.random() < 0.2:
                    column, line = column + height, line + " "
            text.append(line.strip())
        page = list(PAGES.values())[seed % 3]
        found = model.read(Paper(440, 920, seed=seed, **page).photograph(*inks))
        read = found.text().split("\n")
        flagged += found.touching
        lines += len(read) == len(text)
        for known, line in zip(text, read, strict=False):
            known, line = known.replace(" ", ""), line.replace(" ", "")
            matched = difflib.SequenceMatcher(None, known, line, autojunk=False).get_matching_blocks()
            right, total = right + sum(block.size for block in matched), total + len(known)

    assert lines == 4
    assert right >= 0.96 * total
    assert flagged <= 0.015 * total


def test_every_digit_has_its_strokes():
    assert sorted(PEN) == list("0123456789")
