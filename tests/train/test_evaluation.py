import json

import numpy as np
import pytest

from quillrt.runtime.errors import SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.session import Session
from quillrt.runtime.spec import ModelSpec, TensorSpec
from quillrt.train.evaluation import evaluate

LABELS = ("a", "b", "c")
TRUTH = [0, 0, 0, 0, 1, 1, 1, 2]
ANSWERS = [0, 0, 0, 1, 1, 1, 0, 0]


class Answering(Session):
    """Sees images as grey levels 0..1 and answers with the class that the first pixel counts in hundredths."""

    def __init__(self, height=4, width=4, channels=1, fit="resize"):
        recipe = Preprocessing(height, width, fit=fit)
        image = TensorSpec("image", "float32", (None, channels, height, width))
        self.spec = ModelSpec((image,), (TensorSpec("logits", "float32", (None, 3)),), LABELS, recipe)
        self.batches = []

    spec = None

    def run(self, batch):
        self.spec.input.check(batch)
        self.batches.append(batch)
        return np.eye(3, dtype=np.float32)[np.round(batch[:, 0, 0, 0] * 255 / 10).astype(int)]

    def close(self):
        pass


@pytest.fixture
def images():
    """Every pixel of an image is ten times the class that ``Answering`` will give."""
    grey = np.repeat(10 * np.array(ANSWERS, np.uint8), 16).reshape(-1, 4, 4)
    return ImageSet(grey, np.array(TRUTH), LABELS)


def test_scores_by_hand(images):
    """Confusion a: 3 1 0, b: 1 2 0, c: 1 0 0.

    Precision 3/5, 2/3, 0 (c was never predicted); recall 3/4, 2/3, 0; F1 = 2PR / (P + R) = 2/3, 2/3, 0.
    """
    result = evaluate(Answering(), images)
    assert result.n == 8
    assert result.accuracy == 5 / 8
    assert result.confusion.tolist() == [[3, 1, 0], [1, 2, 0], [1, 0, 0]]
    assert result.predictions.tolist() == ANSWERS
    assert result.support.tolist() == [4, 3, 1]
    assert [s.precision for s in result.per_class] == pytest.approx([3 / 5, 2 / 3, 0])
    assert [s.recall for s in result.per_class] == pytest.approx([3 / 4, 2 / 3, 0])
    assert [s.f1 for s in result.per_class] == pytest.approx([2 / 3, 2 / 3, 0])
    macro, weighted = result.macro, result.weighted
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx((19 / 45, 17 / 36, 4 / 9))
    assert (weighted.precision, weighted.recall, weighted.f1) == pytest.approx((4.4 / 8, 5 / 8, 14 / 24))


def test_json_is_whole_and_plain(images):
    data = json.loads(json.dumps(evaluate(Answering(), images).to_json(), allow_nan=False))
    assert data["n"] == 8
    assert data["confusion"] == [[3, 1, 0], [1, 2, 0], [1, 0, 0]]
    assert data["classes"][0] == {"label": "a", "n": 4, "precision": 0.6, "recall": 0.75, "f1": pytest.approx(2 / 3)}
    assert data["macro"]["recall"] == pytest.approx(17 / 36)


def test_batches_cover_every_image_once(images):
    session, labels = Answering(), []

    def track(items, label, total=None):
        labels.append((label, total))
        return items

    result = evaluate(session, images, batch_size=3, track=track)
    assert [len(batch) for batch in session.batches] == [3, 3, 2]
    assert result.predictions.tolist() == ANSWERS
    assert labels == [("running", 3)]


def test_images_are_brought_to_the_models_size_and_channels(images):
    session = Answering(height=6, width=5, channels=3)
    assert evaluate(session, images).predictions.tolist() == ANSWERS
    assert session.batches[0].shape == (8, 3, 6, 5)


def test_class_without_images(images):
    result = evaluate(Answering(), images.take(np.arange(7)))
    assert (result.per_class[2].recall, result.support[2]) == (0, 0)


def test_other_labels_are_refused(images):
    digits = ImageSet(images.images, images.labels, ("0", "1", "2", "3"))
    with pytest.raises(SpecError, match=r"3 classes \(a, b, c\), found 4 \(0, 1, 2, 3\)"):
        evaluate(Answering(), digits)
    swapped = ImageSet(images.images, images.labels, ("b", "a", "c"))
    with pytest.raises(SpecError, match="found 3"):
        evaluate(Answering(), swapped)


def test_no_images_are_refused(images):
    with pytest.raises(SpecError, match="found none"):
        evaluate(Answering(), images.take(np.arange(0)))
