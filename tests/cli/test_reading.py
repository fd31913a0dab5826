"""`read`: text on stdout, boxes as JSON, the page with boxes."""

import json

import numpy as np
import pytest
from paper import Paper, pen
from PIL import Image

pytest.importorskip("onnxruntime")


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.png"
    inks = [(pen(label, 60, 5), 30, 20 + 60 * place) for place, label in zip((0, 1, 3), "258", strict=True)]
    Image.fromarray(Paper(120, 300).photograph(*inks)).save(path)
    return path


def test_the_text_is_printed(quillrt, page):
    assert quillrt("read", page) == (0, "25 8\n", "")


def test_json_has_boxes_and_confidences(quillrt, page):
    code, out, _ = quillrt("read", page, "--json", "--top-k", 2, "--model", "models:digits")

    found = json.loads(out)
    assert code == 0
    assert (found["text"], found["touching"], found["size"]) == ("25 8", 0, [300, 120])
    (line,) = found["lines"]
    assert line["text"] == "25 8"
    assert [c["answer"] for c in line["characters"]] == ["2", "5", "8"]
    assert [c["after_space"] for c in line["characters"]] == [False, False, True]
    top, left, bottom, right = line["characters"][2]["box"]
    assert 195 < left < right < 260
    assert 20 < top < bottom < 105
    assert len(line["characters"][0]["top"]) == 2
    assert line["characters"][0]["top"][0]["probability"] > 0.5


def test_the_page_is_drawn_on_request(quillrt, page, tmp_path):
    assert quillrt("read", page, "--annotate", tmp_path / "drawn.png")[0] == 0

    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (300, 120)
        assert not np.array_equal(np.asarray(drawn), np.asarray(Image.open(page)))
    code, _, err = quillrt("read", page, "--annotate", tmp_path / "drawn.jpg")
    assert code == 1
    assert "ends in .png" in err


def test_a_blank_page_and_touching_characters_are_told_on_stderr(quillrt, tmp_path):
    blank, touching = tmp_path / "blank.png", tmp_path / "touching.png"
    Image.fromarray(Paper(120, 300).photograph()).save(blank)
    zeros = [(pen("0", 60, 6), 30, column) for column in (40, 78)]
    Image.fromarray(Paper(120, 300).photograph(*zeros, (pen("4", 60, 6), 30, 160))).save(touching)

    assert quillrt("read", blank) == (0, "", f"{blank}: no characters found\n")
    code, out, err = quillrt("read", touching)
    assert (code, out) == (0, "?4\n")
    assert err == f"{touching}: 1 marks look like characters that touch: not read\n"


def test_what_is_unsure_is_not_read(quillrt, page):
    assert quillrt("read", page, "--min-confidence", 1)[1] == "?? ?\n"


def test_what_pillow_fails_on_is_told_in_one_line(quillrt, page, monkeypatch):
    def broken(image):
        raise SyntaxError("broken palette")

    monkeypatch.setattr("quillrt.runtime.channels.channels", broken)

    code, out, err = quillrt("read", page)

    assert (code, out) == (1, "")
    assert err == f"quillrt: error: expected a whole image, but {page} is damaged: broken palette; copy it again\n"
