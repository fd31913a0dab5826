import json
from dataclasses import asdict

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quillrt.runtime.confidence import AS_IT_IS, ENERGY_ALONE, SIGNS, Confidence, energy, evidence, softmax
from quillrt.runtime.errors import SpecError
from quillrt.runtime.texture import figures

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
    np.testing.assert_allclose(evidence(logits, fitted, ENERGY_ALONE), [np.log(4), np.log(6), -np.inf])


def test_signs_count_as_much_as_their_weights_say():
    logits = np.log(np.array([[1, 1, 2], [1, 2, 3], [1, 2, 3]], np.float32))
    fitted = np.zeros((3, 28, 28), np.uint8)
    fitted[0, 4:12, 6:14] = 200  # smooth 1, thick 16 / 64, one part
    fitted[1, ::3, ::3] = 255
    weights = {"energy": 1.5, "lowest": 2.0, "parts": -0.5, "smooth": 3.0, "thick": -4.0}
    assert tuple(weights) == SIGNS
    found = evidence(logits, fitted, weights)
    grain = figures(fitted)
    assert found[0] == pytest.approx(1.5 * np.log(4) + 2 * 0 - 0.5 * np.log(2) + 3 * 1 - 4 * 16 / 64)
    assert found[1] == pytest.approx(1.5 * np.log(6) - 0.5 * np.log(101) + 3 * grain["smooth"][1])
    assert found[2] == -np.inf
    taken = Confidence(least_energy=3.0, weights=weights).are_characters(logits, fitted)
    assert taken.tolist() == [True, False, False]


def test_no_images_are_no_characters():
    none = np.zeros((0, 28, 28), np.uint8)
    assert Confidence(least_energy=2.0, weights={"thick": -1.0}).are_characters(np.zeros((0, 3)), none).shape == (0,)


def test_it_survives_json():
    found = Confidence(0.5, 2.25, {"n": 7}, {"energy": 2.5, "thick": -10.5})
    assert Confidence.from_json(json.loads(json.dumps(asdict(found)))) == found
    assert Confidence.from_json({}) == AS_IT_IS
    assert Confidence.from_json({"temperature": 0.5, "least_energy": 2.25, "measured": {}}) == Confidence(0.5, 2.25)
    assert Confidence(0.5, 2.25).weights == ENERGY_ALONE


@pytest.mark.parametrize(
    "data",
    [
        {"temperature": 0},
        {"temperature": float("nan")},
        {"temperature": -1},
        {"temperature": 5e-324},
        {"temperature": 10**400},
        {"least_energy": float("inf")},
        {"least_energy": float("nan")},
        {"least_energy": -(10**400)},
        {"measured": {"n": 1, "characters_turned_away": {"share": 10**400, "n": 1}}},
        {"measured": {"n": 1, "taken_for_characters": {"noise": {"share": -0.1, "n": 1}}}},
        {"weights": {"thick": float("nan")}},
        {"weights": {"thick": -float("inf")}},
        {"weights": {"parts": 1e300}},
        {"weights": {"parts": 10**400}},
    ],
)
def test_what_cannot_be_is_refused(data):
    with pytest.raises(SpecError, match="must be"):
        Confidence.from_json(data)
