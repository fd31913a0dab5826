import numpy as np
import pytest

from quillrt.runtime.errors import DataError
from quillrt.runtime.imageset import ImageSet

IMAGES = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
LABELS = np.array([0, 1, 1, 0])


def test_take_keeps_images_with_their_labels_in_the_order_asked_for():
    taken = ImageSet(IMAGES, LABELS, ("a", "b")).take(np.array([2, 0, 0]))

    assert taken.images[:, 0, 0].tolist() == [2, 0, 0]
    assert taken.labels.tolist() == [1, 0, 0]
    assert taken.classes == ("a", "b")
    assert len(taken) == 3


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "images must be uint8"),
        (IMAGES[0], LABELS, r"of shape \(2, 3\)"),
        (IMAGES, LABELS.astype(np.int32), "labels must be int64"),
        (IMAGES, LABELS[:3], r"of shape \(4,\), but are int64 of shape \(3,\)"),
        (IMAGES, LABELS + 1, "in 0..1, but span 1..2"),
        (IMAGES, LABELS - 1, "in 0..1, but span -1..0"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        ImageSet(images, labels, ("a", "b"))
