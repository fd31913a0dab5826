import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.imageset import ImageSet
from quillrt.train.evaluation import compare
from quillrt.train.plots import plot_confusion


def evaluation(predictions, truth, labels):
    return compare(ImageSet(np.zeros((len(truth), 1, 1), np.uint8), np.array(truth), labels), np.array(predictions))


def test_shades_are_shares_of_the_true_class(tmp_path):
    """Class a is always right, all of b are taken for a: the picture is dark left, light right."""
    path = tmp_path / "new" / "confusion.png"
    plot_confusion(path, evaluation([0] * 4, [0, 0, 1, 1], ("a", "b")), "title")
    with Image.open(path) as image:
        assert image.format == "PNG"
        grey = np.asarray(image.convert("L")).astype(float)
    height, width = grey.shape
    middle = grey[int(0.3 * height) : int(0.7 * height)]
    assert middle[:, int(0.3 * width) : int(0.45 * width)].mean() < 120
    assert middle[:, int(0.65 * width) : int(0.85 * width)].mean() > 220
    assert [file.name for file in path.parent.iterdir()] == ["confusion.png"]


@pytest.mark.parametrize("count", [2, 47])
def test_names_are_text_not_formulas(tmp_path, count):
    labels = (r"$\frac{", "_^{", *map(str, range(count - 2)))
    plot_confusion(tmp_path / "c.png", evaluation(range(count), range(count), labels), "$\\broken$ of $")
    assert (tmp_path / "c.png").stat().st_size > 1000
