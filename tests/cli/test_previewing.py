import json

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.preprocessing import fit_images
from quillrt.train.datasets import load_dataset


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"))


def cells(path, rows, columns):
    """The images of a contact sheet, each 28 x 28 shown three times as large, by where their black ground begins."""
    sheet = read(path)
    dark = sheet == 0
    tops = [y for y in range(1, len(sheet)) if dark[y].sum() > 60 * columns and dark[y - 1].sum() == 0]
    lefts = [x for x in range(1, sheet.shape[1]) if dark[:, x].sum() > 60 * rows and dark[:, x - 1].sum() == 0]
    assert (len(tops), len(lefts)) == (rows, columns)
    return np.array([[sheet[y : y + 84 : 3, x : x + 84 : 3] for x in lefts] for y in tops])


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_preview_shows_images_and_their_variations(quillrt, tmp_path, digits):
    path = tmp_path / "new" / "sheet.png"
    options = ("--images", 3, "--draws", 4, "--augment", "light", "-o", path)
    assert quillrt("preview", *options) == (0, "", f"wrote {path}\n")
    assert {file.name for file in path.parent.iterdir()} == {"sheet.png", "sheet.png.toml"}
    first = path.read_bytes()
    code, out, err = quillrt("preview", "--config", f"{path}.toml", "--json")
    assert (code, json.loads(out), err) == (0, {"path": str(path), "images": 3, "draws": 4}, "")
    assert path.read_bytes() == first
    found = cells(path, 3, 5)
    first = np.array([np.flatnonzero(digits.train.labels == label)[0] for label in range(3)])
    np.testing.assert_array_equal(found[:, 0], fit_images(digits.train.take(first), digits.preprocessing))
    for row in found:
        assert len({image.tobytes() for image in row}) == 5


def test_none_and_a_change_turn_by_that_change_alone(quillrt, tmp_path):
    """Mirrored for certain: the second column is the first from right to left."""
    path = tmp_path / "sheet.png"
    options = ("--images", 2, "--draws", 1, "--augment", "none", "--vary", "hflip=1")
    assert quillrt("preview", *options, "-o", path, "-q") == (0, "", "")
    found = cells(path, 2, 2)
    np.testing.assert_array_equal(found[:, 1], found[:, 0, :, ::-1])


def test_a_seed_repeats_the_picture_and_a_size_enlarges_it(quillrt, tmp_path):
    found = []
    for options in (("--seed", 3), ("--seed", 3), ("--seed", 4), ("--size", 60)):
        path = tmp_path / f"{len(found)}.png"
        assert quillrt("preview", "--images", 1, "--draws", 2, *options, "-o", path, "-q")[0] == 0
        found.append(read(path))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    assert len(found[3]) == len(found[0]) + 2 * 60 - 3 * 28  # small images are shown twice and three times as large


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--dataset", "nope"), 1, "expected a data set out of digits"),
        (("--augment", "wild"), 1, "expected an augmentation out of none, light, strong, photo, found 'wild'"),
        (("--vary", "turn=3"), 1, "expected NAME=NUMBER"),
        (("--vary", "rotation=999"), 1, "expected as rotation of an augmentation 0..180, found 999"),
        (("--denoise", "magic"), 1, "magic"),
        (("-o", "sheet.jpg"), 1, "ends in .png, found sheet.jpg"),
        (("--images", 0), 2, "'--images'"),
        (("--draws", 0), 2, "'--draws'"),
        (("--size", 5), 2, "'--size'"),
    ],
)
def test_bad_input_ends_in_one_line(quillrt, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    got, out, err = quillrt("preview", *arguments, "-q")
    assert (got, out) == (code, "")
    assert says in err
    if code == 1:
        assert err.startswith("quillrt: error: ")
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
