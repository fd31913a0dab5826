import json
from dataclasses import asdict

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quillrt.runtime.confidence import AS_IT_IS, Confidence, energy, evidence, softmax
from quillrt.runtime.errors import SpecError

LOGITS = arrays(np.float32, (3, 5), elements=st.floats(-80, 80, width=32))


@given(LOGITS)
def test_energy_is_scipys_log_of_the_sum_of_exponentials(logits):
    np.testing.assert_allclose(energy(logits), scipy.special.logsumexp(logits.astype(float), axis=1), atol=1e-9)


@given(LOGITS, st.floats(0.1, 10))
def test_a_temperature_changes_how_sure_an_answer_is_and_not_the_answer(logits, temperature):
    found = Confidence(temperature).probabilities(logits)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, softmax(logits.astype(float) / temperature), atol=1e-5)
    assert (found.max(axis=1) >= found[np.arange(3), logits.argmax(axis=1)] - 1e-9).all()


def test_below_the_threshold_and_on_blank_paper_there_is_no_character():
    logits = np.log(np.array([[1, 1, 2], [1, 2, 3], [1, 2, 3]], np.float32))  # energies log 4, log 6, log 6
    fitted = np.zeros((3, 2, 2), np.uint8)
    fitted[:2, 0, 0] = 1
    least = Confidence(least_energy=float(np.log(5)))
    assert least.are_characters(logits, fitted).tolist() == [False, True, False]
    assert AS_IT_IS.are_characters(logits, fitted).all()
    np.testing.assert_allclose(evidence(logits, fitted), [np.log(4), np.log(6), -np.inf])


def test_it_survives_json():
    found = Confidence(0.5, 2.25, {"n": 7})
    assert Confidence.from_json(json.loads(json.dumps(asdict(found)))) == found
    assert Confidence.from_json({}) == AS_IT_IS


@pytest.mark.parametrize(
    "data", [{"temperature": 0}, {"temperature": float("nan")}, {"temperature": -1}, {"least_energy": float("inf")}]
)
def test_what_cannot_be_is_refused(data):
    with pytest.raises(SpecError, match="must be"):
        Confidence.from_json(data)
