import json

import numpy as np
import pytest

from quillrt.runtime.imageset import ImageSet
from quillrt.train.datasets import load_dataset
from quillrt.train.splitting import per_class
from quillrt.train.synthetic import fingerprint, read_synthetic

OPTIONS = ("--steps", 2, "--batch-size", 4, "--device", "cpu")


def test_synthesize_writes_a_set_and_tells_where(quillrt, tmp_path):
    folder = tmp_path / "set"
    options = ("--classes", "7, 1", "--per-class-real", 5, "--count", 3, "--seed", 9, *OPTIONS)
    code, out, err = quillrt("synthesize", *options, "-o", folder, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said.keys() == {"path", "images", "classes", "real_images", "seconds"}
    assert (said["path"], said["images"], said["classes"], said["real_images"]) == (str(folder), 6, 2, 10)
    assert np.bincount(read_synthetic(folder, ("7", "1"), 28, 28).labels).tolist() == [3, 3]
    real = per_class(load_dataset("digits").only(["7", "1"]).train, 5, 9)
    record = json.loads((folder / "synthetic.json").read_text())
    assert record["real"] == {"part": "train", "images": 10, "per_class": 5, "sha256": fingerprint(real)}
    assert (record["dataset"], record["classes"], record["config"]["seed"]) == ("digits", ["7", "1"], 9)


def test_config_in_the_folder_repeats_the_images(quillrt, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert quillrt("synthesize", "--count", 2, *OPTIONS, "-o", first, "-q")[0] == 0
    code, out, err = quillrt("synthesize", "--config", first / "synthetic.toml", "-o", second, "-q")
    assert (code, err) == (0, "")
    assert "20" in out
    names = load_dataset("digits").classes
    np.testing.assert_array_equal(*(read_synthetic(each, names, 28, 28).images for each in (first, second)))


def test_only_the_training_part_is_learned_from(quillrt, tmp_path, monkeypatch):
    from quillrt.train import gan

    seen = []

    def stop(images, config, track):
        seen.append(images)
        return gan.Gan(gan.Generator(10, 28, 28).eval(), images.classes, 0.0)

    monkeypatch.setattr(gan, "train_gan", stop)
    code, _, err = quillrt("synthesize", "--count", 1, "-o", tmp_path / "set", "-q")
    assert (code, err) == (0, "")
    (learned,) = seen
    assert isinstance(learned, ImageSet)
    assert fingerprint(learned) == fingerprint(load_dataset("digits").train)


def test_synthetic_images_join_a_training(quillrt, tmp_path):
    folder = tmp_path / "set"
    assert quillrt("synthesize", "--per-class-real", 3, "--count", 2, *OPTIONS, "-o", folder, "-q")[0] == 0
    options = (
        "--per-class",
        3,
        "--synthetic",
        folder,
        "--epochs",
        1,
        "--batch-size",
        50,
        "-o",
        tmp_path / "m.safetensors",
    )
    code, _, err = quillrt("train", *options, "--json", "-q")
    assert (code, err) == (0, "")


def test_a_folder_of_images_at_a_size_of_its_own(quillrt, draw, tmp_path):
    for k, name in enumerate(("nw", "n e")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(5):
            draw(tmp_path / "mine" / name / f"{i}.png", k)
    options = ("--dataset", f"folder:{tmp_path / 'mine'}", "--size", 20, "--count", 2, *OPTIONS, "-o", tmp_path / "set")
    code, _, err = quillrt("synthesize", *options, "-q")
    assert (code, err) == (0, "")
    assert len(read_synthetic(tmp_path / "set", ("n e", "nw"), 20, 20)) == 4
    assert str(tmp_path) not in (tmp_path / "set" / "synthetic.json").read_text()
    code, out, err = quillrt("synthesize", *options[:2], "--size", 30, "-o", tmp_path / "other", "-q")
    assert (code, out) == (1, "")
    assert "multiples of 4 from 16 to 64, found 30 x 30" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--dataset", "nope"), 1, "expected a data set out of digits"),
        (("--classes", "1,x"), 1, "two or more different classes"),
        (("--per-class-real", 5000), 1, "images per class"),
        (("--steps", 0), 1, "at least 1"),
        (("--lr", "nan"), 1, "lr must be in 0"),
        (("--count", 0), 2, "'--count'"),
        (("-o", "taken"), 1, "taken is not empty; give another --output"),
    ],
)
def test_bad_input_ends_in_one_line(quillrt, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    got, out, err = quillrt("synthesize", *arguments, "-q")
    assert (got, out) == (code, "")
    assert says in err
    if code == 1:
        assert err.startswith("quillrt: error: ")
        assert err.count("\n") == 1
