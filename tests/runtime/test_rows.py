import pytest

from quillrt.runtime.predict import Prediction
from quillrt.runtime.rows import COLUMNS, Choices, answered, unreadable

SEVEN = (("7", 0.75), ("1", 0.25))


@pytest.mark.parametrize(
    ("is_character", "choices", "doubt"),
    [
        (True, Choices(), ""),
        (True, Choices(min_confidence=0.75), ""),
        (True, Choices(min_confidence=0.76), "unsure"),
        (False, Choices(), "no character"),
        (False, Choices(min_confidence=0.76), "no character"),
        (False, Choices(reject=False), ""),
    ],
)
def test_a_row_is_the_prediction_and_no_error(is_character, choices, doubt):
    row = answered(Prediction("a.png", SEVEN, is_character), choices)

    assert tuple(row) == COLUMNS
    assert row == {
        "image": "a.png",
        "answer": None if doubt else "7",
        "doubt": doubt,
        "label": "7",
        "probability": 0.75,
        "is_character": is_character,
        "unsure": choices.min_confidence > 0.75,
        "preprocessing": "as-is",
        "because": "asked for",
        "top": [{"label": "7", "probability": 0.75}, {"label": "1", "probability": 0.25}],
        "error": None,
    }


def test_an_unreadable_image_has_all_columns_and_no_answer():
    row = unreadable("a.png", "expected an image,\nfound none")

    assert tuple(row) == COLUMNS
    assert (row["answer"], row["doubt"], row["is_character"], row["top"]) == (None, "unreadable", None, [])
    assert row["error"] == "expected an image, found none"
