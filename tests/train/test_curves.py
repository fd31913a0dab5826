import csv

import numpy as np
import pytest
from PIL import Image

from quillrt.train.curves import plot_history, write_history


def course(losses, accuracies=(0.5, 0.9, 1.0)):
    return [
        {"number": i + 1, "loss": loss, "accuracy": right, "validation_loss": loss / 2, "validation_accuracy": right}
        for i, (loss, right) in enumerate(zip(losses, accuracies, strict=False))
    ]


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def blue(picture):
    """Where tab:blue, #1f77b4, is drawn, all but exactly."""
    return np.abs(picture - (0x1F, 0x77, 0xB4)).max(axis=2) < 20


def test_history_reads_back_digit_by_digit(tmp_path):
    history = course([0.1 + 0.2, 1e-17, 3])
    write_history(tmp_path / "new" / "h.csv", history)
    with (tmp_path / "new" / "h.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["h.csv"]


def test_history_has_a_line_per_epoch_below_the_names(tmp_path):
    write_history(tmp_path / "h.csv", course([2, 1]))
    assert (tmp_path / "h.csv").read_bytes() == (
        b"number,loss,accuracy,validation_loss,validation_accuracy\n1,2,0.5,1.0,0.5\n2,1,0.9,0.5,0.9\n"
    )


@pytest.mark.parametrize(("losses", "way"), [((100, 10, 1), -1), ((1, 10, 100), 1)])
def test_curves_go_as_the_loss_does(tmp_path, losses, way):
    """A straight line on a logarithmic scale, in the left half; of the legend there are but a few pixels."""
    plot_history(tmp_path / "h.png", course(losses), "title")
    drawn = blue(pixels(tmp_path / "h.png"))
    rows, columns = np.nonzero(drawn[:, : drawn.shape[1] // 2])
    assert np.corrcoef(columns, -rows)[0, 1] * way > 0.5


@pytest.mark.parametrize("loss", [1.0, 0.0])
@pytest.mark.parametrize("epochs", [1, 3])
def test_no_error_no_loss_and_a_single_epoch_can_be_drawn(tmp_path, epochs, loss):
    plot_history(tmp_path / "new" / "h.png", course([loss] * epochs, [1.0] * epochs), r"$\frac{ of it")
    assert blue(pixels(tmp_path / "new" / "h.png")).sum() > 20
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["h.png"]


def test_what_cannot_be_drawn_leaves_no_file(tmp_path):
    with pytest.raises(KeyError):
        plot_history(tmp_path / "h.png", [{"number": 1}], "title")
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_script_stand_above_without_a_word(tmp_path, recwarn):
    plot_history(tmp_path / "h.png", course([2, 1]), "cnn on folder:手書き $x$")
    assert (tmp_path / "h.png").exists()
    assert not recwarn.list
