import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.imageset import ImageSet
from quillrt.train.evaluation import compare
from quillrt.train.plots import plot_confusion, plot_reliability, plot_worst


def evaluation(predictions, truth, labels, logit=9.0):
    images = ImageSet(np.zeros((len(truth), 1, 1), np.uint8), np.array(truth), labels)
    return compare(images, logit * np.eye(len(labels), dtype=np.float32)[list(predictions)])


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def area(picture, colour):
    """How many pixels are of a colour, all but exactly."""
    return int((np.abs(picture - colour).max(axis=2) < 20).sum())


def test_shades_are_shares_of_the_true_class(tmp_path):
    """Class a is always right, all of b are taken for a: the picture is dark left, light right."""
    path = tmp_path / "new" / "confusion.png"
    plot_confusion(path, evaluation([0] * 4, [0, 0, 1, 1], ("a", "b")), "title")
    grey = read(path).mean(axis=2)
    height, width = grey.shape
    middle = grey[int(0.3 * height) : int(0.7 * height)]
    assert middle[:, int(0.3 * width) : int(0.45 * width)].mean() < 120
    assert middle[:, int(0.65 * width) : int(0.85 * width)].mean() > 220
    assert [file.name for file in path.parent.iterdir()] == ["confusion.png"]


@pytest.mark.parametrize("count", [2, 47])
def test_names_are_text_not_formulas(tmp_path, count):
    """Nor need a font have them: a warning of a missing glyph would be an error here."""
    labels = (r"$\frac{", "\u4e00\n", *map(str, range(count - 2)))
    wrong = evaluation(np.roll(range(count), 1), range(count), labels)
    title = "$\\broken$ of $\n\u4e00\udc80"
    plot_confusion(tmp_path / "c.png", wrong, title)
    plot_reliability(tmp_path / "r.png", wrong, title)
    plot_worst(tmp_path / "w.png", wrong, np.zeros((len(wrong.worst()), 8, 8), np.uint8), title)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("c.png", "r.png", "w.png"))


def test_a_long_title_is_not_cut(tmp_path):
    short, long = tmp_path / "short.png", tmp_path / "long.png"
    plot_confusion(short, evaluation([0, 1], [0, 1], ("a", "b")), "title")
    plot_confusion(long, evaluation([0, 1], [0, 1], ("a", "b")), "W" * 100)
    assert read(long).shape[1] > 1.5 * read(short).shape[1]
    assert (read(long)[:, :5] == 255).all()


BLUE, ORANGE = (0x4C, 0x72, 0xB0), (0xDD, 0x84, 0x52)


def test_reliability_shows_accuracy_and_gap(tmp_path):
    """Sure at e^9 : 1 and right as often as not: half a bar of blue, and a gap as high. Right always: blue to the top,
    no gap to speak of."""
    plot_reliability(tmp_path / "half.png", evaluation([0] * 4, [0, 0, 1, 1], ("a", "b")), "t")
    plot_reliability(tmp_path / "all.png", evaluation([0] * 4, [0] * 4, ("a", "b")), "t")
    half, whole = read(tmp_path / "half.png"), read(tmp_path / "all.png")
    assert area(half, BLUE) / area(whole, BLUE) == pytest.approx(0.5, abs=0.1)
    assert area(half, ORANGE) > 1.5 * area(whole, ORANGE)


def test_worst_shows_the_images_that_it_is_given(tmp_path):
    """Two of four are wrong: their grey levels stand in the picture, in the order of `worst`."""
    result = evaluation([0] * 4, [0, 1, 0, 1], ("a", "b"))
    plot_worst(tmp_path / "w.png", result, np.array([60, 200], np.uint8).repeat(64).reshape(2, 8, 8), "t")
    picture = read(tmp_path / "w.png")
    first, second = ((picture == level).all(axis=2) for level in (60, 200))
    assert first.sum() > 5_000
    assert second.sum() > 5_000
    assert np.argwhere(first)[:, 1].mean() < np.argwhere(second)[:, 1].mean()


def test_no_wrong_answer_leaves_a_worst_picture_without_images(tmp_path):
    result = evaluation([0, 1], [0, 1], ("a", "b"))
    plot_worst(tmp_path / "w.png", result, np.zeros((0, 8, 8), np.uint8), "t")
    assert len(read(tmp_path / "w.png")) < 100
