import json

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.errors import ConfigError, DataError, ImageError
from quillrt.runtime.files import check_free
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, fit_images
from quillrt.train.folder import read_folder
from quillrt.train.synthetic import fingerprint, joined, read_synthetic, write_synthetic

CLASSES = ("T-shirt/top", "い", "a%b", "100")


@pytest.fixture
def images():
    """Three random images of each class, the classes mixed."""
    pixels = np.random.default_rng(3).integers(0, 256, (12, 20, 16), np.uint8)
    return ImageSet(pixels, np.arange(12) % 4, CLASSES)


@pytest.fixture
def written(images, tmp_path):
    write_synthetic(tmp_path / "set", images, {"seed": 7}, "a title")
    return tmp_path / "set"


def test_folder_gives_back_the_same_images(written, images):
    again = read_synthetic(written, CLASSES, 20, 16)
    by_class = images.take(np.argsort(images.labels, kind="stable"))
    np.testing.assert_array_equal(again.images, by_class.images)
    np.testing.assert_array_equal(again.labels, by_class.labels)
    assert again.classes == CLASSES


def test_labels_follow_the_order_that_is_asked_for(written):
    forth, back = read_synthetic(written, CLASSES, 20, 16), read_synthetic(written, CLASSES[::-1], 20, 16)
    for label in range(4):
        np.testing.assert_array_equal(forth.images[forth.labels == label], back.images[back.labels == 3 - label])


def test_what_lies_in_the_folder(written, tmp_path):
    assert sorted(each.name for each in written.iterdir()) == sorted(
        ["T-shirt%2Ftop", "%E3%81%84", "a%25b", "100", "contact.png", "synthetic.json"]
    )
    assert sorted(each.name for each in (written / "100").iterdir()) == ["00001.png", "00002.png", "00003.png"]
    assert json.loads((written / "synthetic.json").read_text()) == {"seed": 7}
    with Image.open(written / "contact.png") as sheet:
        assert sheet.width > 3 * 80  # three columns of enlarged images
    assert [each.name for each in tmp_path.iterdir()] == ["set"]  # nothing temporary stays beside


def test_it_is_a_data_set_of_folders_too(written):
    images = read_folder(written, Preprocessing(height=20, width=16, fit="resize"))
    assert np.bincount(images.labels).tolist() == [3, 3, 3, 3]


def test_more_images_than_a_contact_sheet_has_room_for(tmp_path):
    many = ImageSet(np.zeros((50, 16, 16), np.uint8), np.repeat([0, 1], [49, 1]), ("many", "one"))
    write_synthetic(tmp_path / "set", many, {})
    assert len(read_synthetic(tmp_path / "set", ("one", "many"), 16, 16)) == 50


def test_failure_leaves_nothing(images, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_synthetic(tmp_path / "set", images, {"seconds": float("nan")})
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_a_full_one_is_refused(images, tmp_path):
    (tmp_path / "set").mkdir()
    write_synthetic(tmp_path / "set", images, {})
    with pytest.raises(ConfigError, match=r"new or an empty folder, but .*set is not empty"):
        write_synthetic(tmp_path / "set", images, {})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file"):
        check_free(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"make the folder .*file.below, but .*file can hold none"):
        check_free(tmp_path / "file" / "below")


def test_other_classes_or_sizes_are_refused(written):
    with pytest.raises(DataError, match=r"of the classes 100, x, .*but .*set has .*T-shirt/top"):
        read_synthetic(written, ("100", "x"), 20, 16)
    with pytest.raises(DataError, match=r"of 28 x 28, but .*00001\.png has 20 x 16"):
        read_synthetic(written, CLASSES, 28, 28)


def test_broken_folders_are_refused(written, tmp_path):
    with pytest.raises(DataError, match="none is none"):
        read_synthetic(tmp_path / "none", CLASSES, 20, 16)
    (written / "100" / "00002.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"00002\.png"):
        read_synthetic(written, CLASSES, 20, 16)
    for file in (written / "100").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"100, but it holds none"):
        read_synthetic(written, CLASSES, 20, 16)


def test_fingerprint_tells_images_labels_and_classes_apart(images):
    pixels = images.images.copy()
    pixels[5, 4, 3] ^= 1
    labels = images.labels[::-1].copy()
    others = [
        ImageSet(pixels, images.labels, CLASSES),
        ImageSet(images.images, labels, CLASSES),
        ImageSet(images.images, images.labels, CLASSES[::-1]),
        images.take(np.arange(11)),
    ]
    assert len({fingerprint(each) for each in (images, *others)}) == 5
    assert fingerprint(images.take(np.arange(12))) == fingerprint(images)


def test_joining_fits_what_is_generated_and_nothing_twice(images):
    recipe = Preprocessing(height=28, width=28, denoise=("median",), fit="character")
    real = ImageSet(fit_images(images, recipe), images.labels, CLASSES, recipe)
    both = joined(real, images)
    assert both.fitted == recipe
    np.testing.assert_array_equal(fit_images(both, recipe), np.concatenate([real.images, fit_images(images, recipe)]))
    np.testing.assert_array_equal(both.labels, np.tile(images.labels, 2))
    assert joined(images, images).fitted is None


def test_a_link_is_no_free_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with pytest.raises(ConfigError, match="is a link; give another --output"):
        check_free(tmp_path / "link")
