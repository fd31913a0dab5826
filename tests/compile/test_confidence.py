import numpy as np
import pytest
import scipy.optimize
import scipy.special

from quillrt.compile.confidence import MOST_LOST, best_temperature, confidence_of, cross_entropy, fit_confidence
from quillrt.compile.source import load_source
from quillrt.runtime.confidence import energy
from quillrt.runtime.pretrained import find
from quillrt.train.datasets import load_dataset_for


@pytest.fixture
def answers():
    """Logits of a model that is right as often as softmax(logits) says, then made three times too sure."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 10)).astype(np.float32)
    shares = scipy.special.softmax(logits, axis=1)
    labels = np.array([random.choice(10, p=share / share.sum()) for share in shares])
    return 3 * logits, labels


def test_the_temperature_is_the_one_that_scipy_finds(answers):
    logits, labels = answers
    found = best_temperature(logits, labels)
    best = scipy.optimize.minimize_scalar(
        lambda t: cross_entropy(logits, labels, t), bounds=(0.05, 20), method="bounded"
    )
    assert found == pytest.approx(best.x, rel=1e-3)
    assert found == pytest.approx(3, rel=0.1)  # by construction


def test_cross_entropy_is_that_of_the_right_labels_probability():
    logits = np.log(np.array([[1, 3], [4, 1]], np.float32))
    wanted = -np.log([3 / 4, 4 / 5]).mean()
    assert cross_entropy(logits, np.array([1, 0]), 1.0) == pytest.approx(wanted)


def test_the_threshold_turns_away_few_characters_at_most_and_measures_what_passes(answers):
    logits, labels = answers
    middle = float(np.median(energy(logits)))
    others = {"buildings": np.full(50, -100.0), "noise": np.array([middle, -np.inf, 1e3, -np.inf])}
    found = fit_confidence(logits, labels, others)
    measured = found.measured
    assert 0 <= measured["characters_turned_away"]["share"] <= MOST_LOST
    assert measured["taken_for_characters"]["buildings"]["share"] == 0
    assert measured["taken_for_characters"]["noise"]["share"] == 0.5
    assert measured["taken_for_characters"]["noise"]["n"] == 4
    assert [each["fitted_on"] for each in measured["taken_for_characters"].values()] == [True, False]
    # Buildings are told apart by the lowest energy of all already: no character need be turned away.
    assert found.least_energy == energy(logits).min()

    near = fit_confidence(logits, labels, {**others, "buildings": np.full(50, np.quantile(energy(logits), 0.001))})
    assert 0.001 <= near.measured["characters_turned_away"]["share"] <= 0.0015


def test_without_negatives_there_is_a_temperature_alone(answers):
    found = fit_confidence(*answers, {})
    assert found.least_energy is None
    assert found.temperature > 2


def test_a_real_model_tells_buildings_from_digits_better_than_chance():
    source = load_source(find("digits", ".safetensors"))
    _, splits = load_dataset_for(source.spec, {}, "digits")
    found = confidence_of(source, splits.validation).measured
    shares = {name: each["share"] for name, each in found["taken_for_characters"].items()}
    assert shares["blank"] == 0
    assert shares["flowers"] < 0.5 < 1 - found["characters_turned_away"]["share"]
    assert found["cross_entropy"]["after"] <= found["cross_entropy"]["before"]
