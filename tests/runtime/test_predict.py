from dataclasses import replace

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quillrt.runtime.confidence import Confidence, softmax
from quillrt.runtime.errors import AccuracyError
from quillrt.runtime.predict import predict, run_images
from quillrt.runtime.session import Session
from quillrt.runtime.spec import TensorSpec

BRIGHT = 1 / (1 + 3 * np.exp(-8))  # of the white quadrant: logits 4 and three times -4


class NumpySession(Session):
    """The classifier of ``quadrants`` without any engine; remembers the shapes it was asked for."""

    def __init__(self, quadrants, channels=1):
        image = TensorSpec("image", "float32", (None, channels, 8, 8))
        self._spec, self._logits, self.shapes = replace(quadrants.spec, inputs=(image,)), quadrants.logits, []

    @property
    def spec(self):
        return self._spec

    def run(self, batch):
        self._spec.input.check(batch)
        self.shapes.append(batch.shape)
        return self._logits(np.ascontiguousarray(batch[:, :1]))

    def close(self):
        pass


@pytest.fixture
def session(quadrants):
    return NumpySession(quadrants)


def quadrant(k, size=8):
    image = np.zeros((size, size), np.uint8)
    image[size // 2 * (k // 2) :, size // 2 * (k % 2) :][: size // 2, : size // 2] = 255
    return image


def test_each_image_gets_its_label_and_probability_in_order(session):
    found = list(predict(session, [(f"{k}.png", quadrant(k, 8 + 8 * k)) for k in (2, 0, 3, 1)]))

    assert [p.name for p in found] == ["2.png", "0.png", "3.png", "1.png"]
    assert [p.top[0][0] for p in found] == ["sw", "nw", "se", "ne"]
    for p in found:
        assert len(p.top) == 1
        assert p.top[0][1] == pytest.approx(BRIGHT, abs=0.01)  # scaling blurs the larger images' edges


def test_the_likeliest_come_first_and_equals_in_the_order_of_labels(session):
    (found,) = predict(session, [("x", quadrant(2))], top_k=99)

    assert [label for label, _ in found.top] == ["sw", "nw", "ne", "se"]
    np.testing.assert_allclose([share for _, share in found.top], [BRIGHT] + 3 * [(1 - BRIGHT) / 3], rtol=1e-6)


def test_a_hundred_equals_keep_the_order_of_labels(session, monkeypatch):
    labels = tuple(str(k) for k in range(100))
    spec = replace(session.spec, labels=labels, outputs=(TensorSpec("logits", "float32", (None, 100)),))
    monkeypatch.setattr(session, "_spec", spec)
    monkeypatch.setattr(session, "_logits", lambda batch: np.where(np.arange(100) % 3, 0, 1)[None].astype(np.float32))

    (found,) = predict(session, [("x", quadrant(0))], top_k=100)

    assert [label for label, _ in found.top] == sorted(labels, key=lambda label: (int(label) % 3 > 0, int(label)))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_batch_size_changes_nothing_but_the_batches(session, batch_size):
    images = [(str(n), quadrant(n % 4)) for n in range(5)]

    found = list(predict(session, images, batch_size=batch_size))

    assert [p.top[0][0] for p in found] == ["nw", "ne", "sw", "se", "nw"]
    assert sum(shape[0] for shape in session.shapes) == 5
    assert max(shape[0] for shape in session.shapes) == min(batch_size, 5)


def test_images_are_read_a_batch_at_a_time(session):
    read = []

    def stream():
        for n in range(10):
            read.append(n)
            yield str(n), quadrant(0)

    next(predict(session, stream(), batch_size=3))

    assert read == [0, 1, 2]


def test_no_image_gives_no_prediction(session):
    assert list(predict(session, [])) == []


def test_a_network_of_three_channels_gets_the_grey_image_three_times(quadrants):
    session = NumpySession(quadrants, channels=3)

    (found,) = predict(session, [("x", quadrant(1))])

    assert session.shapes == [(1, 3, 8, 8)]
    assert found.top[0][0] == "ne"


def test_run_images_returns_the_logits_of_all_in_order(session, quadrants):
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8), np.uint8)

    logits = run_images(session, images, batch_size=3)

    expected = quadrants.logits((images[:, None] / 255 - 0.5) / 0.5)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert [shape[0] for shape in session.shapes] == [3, 3, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(session, monkeypatch, value):
    monkeypatch.setattr(session, "_logits", lambda batch: np.array([[0, value, 0, 0]], np.float32))

    with pytest.raises(AccuracyError, match=r"expected finite logits, found NaN or infinite ones.*--precision fp32"):
        list(predict(session, [("x", quadrant(0))]))
    with pytest.raises(AccuracyError, match="expected finite logits"):
        run_images(session, quadrant(0)[None])


@given(arrays(np.float32, (3, 5), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_softmax_is_scipys_also_for_huge_logits(logits):
    np.testing.assert_allclose(softmax(logits), scipy.special.softmax(logits.astype(np.float64), axis=1), atol=1e-12)


def test_the_bundles_confidence_gives_the_probabilities_and_turns_images_away(session):
    images = [("clear", quadrant(1)), ("grey", np.full((8, 8), 90, np.uint8)), ("blank", np.zeros((8, 8), np.uint8))]
    (clear, *_) = predict(session, images, confidence=Confidence(temperature=8.0))
    assert clear.top[0][1] == pytest.approx(1 / (1 + 3 * np.exp(-1)))  # logits 4 and -4, divided by 8
    assert clear.is_character
    # Light in one quarter: log(e^4 + 3 e^-4); the same light everywhere: log 4 and what that level adds.
    found = list(predict(session, images, confidence=Confidence(least_energy=3.9)))
    assert [each.is_character for each in found] == [True, False, False]
    assert [each.is_character for each in predict(session, images)] == [True, True, True]
