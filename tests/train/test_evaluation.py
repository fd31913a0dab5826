import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import top_k_accuracy_score

from quillrt.runtime.errors import SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.session import Session
from quillrt.runtime.spec import ModelSpec, TensorSpec
from quillrt.train.evaluation import compare, evaluate

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
    assert data["interval"] == pytest.approx([0.3057, 0.8632], abs=5e-5)  # Wilson's, of 5 in 8
    assert data["top_k"] == {"1": 0.625}  # of three classes, three are no choice
    sure = np.e / (np.e + 2)  # of every answer: logits 1, 0, 0
    assert data["expected_calibration_error"] == pytest.approx(0.625 - sure)
    assert sum(each["n"] for each in data["reliability"]) == 8
    assert data["confused"] == [
        {"true": "a", "predicted": "b", "n": 1},
        {"true": "b", "predicted": "a", "n": 1},
        {"true": "c", "predicted": "a", "n": 1},
    ]
    assert data["worst"][0] == {"index": 3, "true": "a", "predicted": "b", "confidence": pytest.approx(sure)}
    assert [each["index"] for each in data["worst"]] == [3, 6, 7]


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


def labelled(truth, classes):
    return ImageSet(np.zeros((len(truth), 1, 1), np.uint8), np.array(truth), tuple(map(str, range(classes))))


def test_top_k_is_scikit_learns():
    random = np.random.default_rng(0)
    truth, logits = random.integers(0, 10, 500), random.normal(size=(500, 10)).astype(np.float32)
    top_k = compare(labelled(truth, 10), logits).top_k
    assert top_k.keys() == {1, 3, 5}
    for k, share in top_k.items():
        assert share == pytest.approx(top_k_accuracy_score(truth, logits, k=k, labels=range(10)))


def test_the_first_of_equal_logits_is_the_answer():
    """Every image is answered 0, then 1, 2 ... 5: of one image of each class, k are among the first k."""
    result = compare(labelled(range(6), 6), np.zeros((6, 6), np.float32))
    assert result.top_k == {1: 1 / 6, 3: 3 / 6, 5: 5 / 6}
    assert result.accuracy == result.top_k[1]


def test_confidences_are_the_softmax_of_the_answers():
    logits = np.random.default_rng(1).normal(scale=5, size=(50, 4)).astype(np.float32)
    result = compare(labelled(np.arange(50) % 4, 4), logits)
    expected = softmax(logits.astype(np.float64), axis=1)
    assert result.confidences == pytest.approx(expected.max(axis=1))
    assert (result.predictions == expected.argmax(axis=1)).all()
    assert (result.right == (expected.argmax(axis=1) == np.arange(50) % 4)).all()


def test_confused_pairs_most_often_first():
    truth, answers = [0, 0, 1, 2, 2, 2, 2, 0], [1, 1, 0, 0, 0, 0, 2, 0]
    result = compare(labelled(truth, 3), np.eye(3, dtype=np.float32)[answers])
    assert result.confused() == [(2, 0, 3), (0, 1, 2), (1, 0, 1)]
    assert result.confused(limit=1) == [(2, 0, 3)]


def test_worst_are_wrong_and_surest_first():
    """The second is sure and right; the others are wrong, with more and more confidence but for the last."""
    logits = np.array([[1, 0], [9, 0], [2, 0], [0, 3], [0, 0.5]], np.float32)
    result = compare(labelled([1, 0, 1, 0, 0], 2), logits)
    assert result.worst().tolist() == [3, 2, 0, 4]
    assert result.worst(limit=2).tolist() == [3, 2]
