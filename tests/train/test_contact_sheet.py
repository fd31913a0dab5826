import numpy as np
import pytest
from PIL import Image

from quillrt.train.contact_sheet import contact_sheet


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def boxes(sheet, colour):
    """The (top, left, height, width) of the areas of one colour, by their rows and columns; they lie on a grid."""

    def runs(hits):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], hits.astype(int), [0]))))
        return list(zip(edges[::2], edges[1::2], strict=True))

    hits = (sheet == colour).all(axis=2)
    return [
        (top, left, bottom - top, right - left)
        for top, bottom in runs(hits.any(axis=1))
        for left, right in runs(hits[top:bottom].any(axis=0))
    ]


LEVEL = (77, 77, 77)  # a grey level that no text has, for its edges are smoothed over white


@pytest.mark.parametrize(("count", "columns", "rows"), [(7, 3, [3, 3, 1]), (2, 10, [2]), (1, 1, [1])])
def test_images_stand_in_rows(tmp_path, count, columns, rows):
    contact_sheet(tmp_path / "new" / "s.png", np.full((count, 24, 12), 77, np.uint8), [""] * count, columns)
    found = boxes(read(tmp_path / "new" / "s.png"), LEVEL)
    tops = [top for top, _, _, _ in found]
    assert [tops.count(top) for top in dict.fromkeys(tops)] == rows
    assert {box[2:] for box in found} == {(96, 48)}  # four times as large
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["s.png"]


def test_pixels_are_shown_as_they_are(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32), np.uint8)
    contact_sheet(tmp_path / "s.png", image, [""])
    sheet = read(tmp_path / "s.png")
    top, left = np.argwhere((sheet != 255).any(axis=2)).min(axis=0)
    assert (sheet[top : top + 96 : 3, left : left + 96 : 3, 0] == image[0]).all()


def test_the_caption_stands_below_its_image(tmp_path):
    contact_sheet(tmp_path / "s.png", np.full((2, 24, 24), 77, np.uint8), ["WWW\nWW", ""])
    sheet = read(tmp_path / "s.png")
    (top, left, height, width), (_, other, _, _) = (box for box in boxes(sheet, LEVEL) if box[3] > 90)
    below = sheet[top + height :]
    assert below[:, left : left + width].min() < 100
    assert below[:, other:].min() == 255


def test_a_long_caption_stays_in_its_cell(tmp_path):
    contact_sheet(tmp_path / "s.png", np.full((2, 24, 24), 77, np.uint8), ["W" * 100, ""])
    sheet = read(tmp_path / "s.png")
    (top, _, height, _), (_, other, _, width) = (box for box in boxes(sheet, LEVEL) if box[3] > 90)
    assert (sheet[top + height :, other - width // 4 :] == 255).all()
    assert sheet.shape[1] < 500  # two cells of twice the image's 96 pixels, at most


def test_a_wide_title_is_not_cut(tmp_path):
    contact_sheet(tmp_path / "s.png", np.full((1, 24, 24), 77, np.uint8), [""], title="W" * 40)
    sheet = read(tmp_path / "s.png")
    assert sheet.shape[1] > 40 * 10
    assert (sheet[:, -5:] == 255).all()


def test_no_image_leaves_the_title(tmp_path):
    contact_sheet(tmp_path / "s.png", np.zeros((0, 8, 8), np.uint8), [], title="none is wrong")
    assert read(tmp_path / "s.png").min() < 100


def test_any_text(tmp_path):
    texts = [r"$\frac{", "お\tx", "\udc80", "שלום", "e\u0301", "\U0001f600"]
    contact_sheet(tmp_path / "s.png", np.zeros((6, 8, 8), np.uint8), texts, title=" ".join(texts))
    assert (tmp_path / "s.png").exists()
