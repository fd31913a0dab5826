import numpy as np
import pytest

from quillrt.runtime.errors import DataError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing

IMAGES = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
LABELS = np.array([0, 1, 1, 0])


def test_take_keeps_images_with_their_labels_in_the_order_asked_for():
    taken = ImageSet(IMAGES, LABELS, ("a", "b")).take(np.array([2, 0, 0]))

    assert taken.images[:, 0, 0].tolist() == [2, 0, 0]
    assert taken.labels.tolist() == [1, 0, 0]
    assert taken.classes == ("a", "b")
    assert len(taken) == 3
    assert taken.fitted is None


def test_take_keeps_what_fitted_the_images():
    recipe = Preprocessing(2, 3, denoise=("median",))

    assert ImageSet(IMAGES, LABELS, ("a", "b"), recipe).take(np.array([1])).fitted == recipe
    with pytest.raises(DataError, match=r"expected images of 3 x 2, as .* makes them, found 2 x 3"):
        ImageSet(IMAGES, LABELS, ("a", "b"), Preprocessing(3, 2))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "expected images uint8 of shape"),
        (IMAGES[0], LABELS, r"of shape \(2, 3\)"),
        (IMAGES, LABELS.astype(np.int32), "expected labels int64 of shape"),
        (IMAGES, LABELS[:3], r"of shape \(4,\), found int64 of shape \(3,\)"),
        (IMAGES, LABELS + 1, "in 0..1, found 1..2"),
        (IMAGES, LABELS - 1, "in 0..1, found -1..0"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        ImageSet(images, labels, ("a", "b"))


def test_the_sha256_names_images_labels_and_classes():
    one = ImageSet(IMAGES, LABELS, ("a", "b"))
    assert one.sha256() == ImageSet(IMAGES[::-1][::-1], LABELS.copy(), ("a", "b")).sha256()
    others = [
        ImageSet(IMAGES + np.uint8(1), LABELS, ("a", "b")),
        ImageSet(IMAGES, 1 - LABELS, ("a", "b")),
        ImageSet(IMAGES, LABELS, ("b", "a")),
        ImageSet(IMAGES.reshape(4, 3, 2), LABELS, ("a", "b")),
        one.take(np.arange(3)),
    ]
    assert len({each.sha256() for each in (one, *others)}) == 6
