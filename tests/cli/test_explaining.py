"""`explain`: the picture of the stages and the prediction."""

import json

import numpy as np
import pytest
from paper import Paper, pen
from PIL import Image

pytest.importorskip("onnxruntime")


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "five.jpg"
    paper = Paper(300, 400, ruling="squares", shadow=0.5)
    Image.fromarray(paper.photograph((pen("5", 90, 6), 100, 150))).save(path, quality=90)
    return path


def test_the_picture_shows_the_stages_and_the_answer_is_told(quillrt, photograph, tmp_path):
    picture = tmp_path / "out" / "stages.png"

    code, out, err = quillrt("explain", photograph, "-o", picture, "--json")

    assert code == 0, err
    found = json.loads(out)
    assert (found["answer"], found["top"][0]["label"], len(found["top"])) == ("5", "5", 3)
    top, left, bottom, right = found["box"]
    assert abs(top - 103) < 12
    assert abs(bottom - 193) < 15
    assert 145 < left < right < 230
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
        assert np.asarray(drawn.convert("L")).std() > 40


def test_blank_paper_is_said_to_hold_no_character(quillrt, tmp_path):
    path = tmp_path / "blank.png"
    Image.fromarray(Paper(200, 200).photograph()).save(path)

    code, out, _ = quillrt("explain", path, "-o", tmp_path / "stages.png")

    assert code == 0
    assert out.startswith(f"{path}  no character (")


def test_what_cannot_be_written_or_read_is_told_before(quillrt, photograph, tmp_path):
    code, _, err = quillrt("explain", photograph, "-o", tmp_path / "stages.jpg")
    assert code == 1
    assert "expected an output that ends in .png" in err
    code, _, err = quillrt("explain", tmp_path / "none.jpg", "-o", tmp_path / "stages.png")
    assert code == 1
    assert "expected an image file" in err
    assert not (tmp_path / "stages.png").exists()


def test_what_pillow_fails_on_is_told_in_one_line(quillrt, photograph, tmp_path, monkeypatch):
    def broken(image):
        raise SyntaxError("broken palette")

    monkeypatch.setattr("quillrt.runtime.channels.channels", broken)

    code, out, err = quillrt("explain", photograph, "-o", tmp_path / "stages.png")

    assert (code, out) == (1, "")
    assert (
        err == f"quillrt: error: expected a whole image, but {photograph} is damaged: broken palette; copy it again\n"
    )
