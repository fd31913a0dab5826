import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.errors import DataError, ImageError
from quillrt.runtime.images import read_image
from quillrt.runtime.preprocessing import Preprocessing, fit_image, fit_images
from quillrt.train.datasets import load_dataset
from quillrt.train.folder import read_folder


@pytest.fixture
def shapes(tmp_path):
    """Dark bars on white paper: 5 upright in `bar`, 4 lying in `dash`, of sizes of their own."""
    root = tmp_path / "shapes"
    for name, count in (("dash", 4), ("bar", 5)):
        for i in range(count):
            paper = np.full((40 + i, 40), 255, np.uint8)
            paper[8:32, 18:22] = 20 * i
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(paper if name == "bar" else paper.T).save(root / name / f"{i}.png")
    return root


def test_folders_are_classes_and_images_are_fitted(shapes):
    (shapes / ".cache").mkdir()
    (shapes / "README.md").write_text("no class")
    (shapes / "bar" / "notes.txt").write_text("no image")
    images = read_folder(shapes, Preprocessing())
    assert images.classes == ("bar", "dash")
    assert images.labels.tolist() == [0] * 5 + [1] * 4
    for image, label in zip(images.images, images.labels, strict=True):
        ink = image > 127  # light on dark now
        height, width = ink.any(axis=1).sum(), ink.any(axis=0).sum()
        assert (height, width) == ((20, 3) if label == 0 else (3, 20))


def test_parts_hold_every_class_and_stay(shapes):
    splits, again = load_dataset(f"folder:{shapes}"), load_dataset(f"folder:{shapes}")
    assert [np.bincount(part.labels).tolist() for part in (splits.train, splits.validation, splits.test)] == [
        [3, 2],
        [1, 1],
        [1, 1],
    ]
    np.testing.assert_array_equal(splits.test.images, again.test.images)
    assert splits.preprocessing.fit == "character"


def test_too_few_images(shapes):
    for i in (0, 1):
        (shapes / "dash" / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"at least 3 images of each class .*dash holds 2"):
        load_dataset(f"folder:{shapes}")


def test_folder_without_images(shapes):
    (shapes / "comma").mkdir()
    with pytest.raises(DataError, match=r"comma"):
        load_dataset(f"folder:{shapes}")


def test_no_folder_and_empty_folder(tmp_path):
    with pytest.raises(DataError, match="is none"):
        load_dataset(f"folder:{tmp_path}/none")
    with pytest.raises(DataError, match="holds 0"):
        load_dataset(f"folder:{tmp_path}")


def test_damaged_image_is_named(shapes):
    path = shapes / "bar" / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"2\.png"):
        load_dataset(f"folder:{shapes}")


def test_a_models_own_recipe_fits_the_images(shapes):
    splits = load_dataset(f"folder:{shapes}", recipe=Preprocessing(height=10, width=8, fit="resize"))
    assert splits.train.images.shape == (5, 10, 8)
    assert (splits.preprocessing.height, splits.preprocessing.width, splits.preprocessing.fit) == (10, 8, "resize")
    assert splits.train.images[:, 0, 0].min() == 255  # the paper stays white


def test_images_are_cleaned_once(shapes):
    recipe = Preprocessing(denoise=("gaussian",))
    images = read_folder(shapes, recipe)
    splits = load_dataset(f"folder:{shapes}", recipe=recipe)
    part = splits.only(["dash", "bar"]).test
    assert images.fitted == part.fitted == recipe
    np.testing.assert_array_equal(images.images[0], fit_image(read_image(shapes / "bar" / "0.png"), recipe))
    assert fit_images(part, splits.preprocessing) is part.images
    assert splits.preprocessing.mean == pytest.approx(splits.train.images.mean() / 255, abs=5e-5)


def test_blank_images(shapes):
    for file in shapes.glob("*/*.png"):
        Image.new("L", (30, 30), 255).save(file)
    with pytest.raises(DataError, match="expected images with ink"):
        load_dataset(f"folder:{shapes}")


@pytest.mark.data
def test_real_photographs():
    photos = Path(os.environ.get("QUILLRT_DATA", ""), "photos", "digits")
    if not os.environ.get("QUILLRT_DATA") or not photos.is_dir():
        pytest.skip("no photos/digits in QUILLRT_DATA")
    splits = load_dataset(f"folder:{photos}")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (120, 40, 40)
    assert splits.classes == tuple("0123456789")
    corners = splits.train.images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.median(corners) == 0  # dark ground
