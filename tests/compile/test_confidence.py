import numpy as np
import pytest
import scipy.optimize
import scipy.special

from quillrt.compile import confidence as module
from quillrt.compile.answers import Answers
from quillrt.compile.confidence import (
    MOST_LOST,
    Seen,
    best_temperature,
    best_weights,
    confidence_of,
    cross_entropy,
    fit_confidence,
)
from quillrt.compile.source import load_source
from quillrt.runtime.confidence import ENERGY_ALONE, SIGNS, energy
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


@pytest.fixture
def characters(answers):
    """Those answers to rings of many sizes and widths: all of one part with one hole."""
    return Seen(rings(len(answers[1]), np.random.default_rng(1)), answers[0])


def rings(count, random):
    rows, columns = np.mgrid[:28, :28] - 13.5
    away = np.hypot(rows, columns)
    radius, half = random.uniform(5, 9, (count, 1, 1)), random.uniform(1, 2, (count, 1, 1))
    return (255 * np.clip(half + 0.5 - abs(away - radius), 0, 1)).astype(np.uint8)


def grain(count, random):
    """Noise with no fewer grey levels where there is ink than a ring has."""
    return random.integers(0, 256, (count, 28, 28)).astype(np.uint8)


def with_evidence(characters, *amounts):
    """One of ``characters`` again and again, with logits that lift its energy to each of ``amounts``."""
    logits = np.repeat(np.asarray(amounts, np.float32)[:, None], 10, axis=1) - np.float32(np.log(10))
    return Seen(np.repeat(characters.fitted[:1], len(amounts), axis=0), logits)


def by_energy(monkeypatch):
    monkeypatch.setattr(module, "best_weights", lambda characters, strangers: ENERGY_ALONE)


def test_the_threshold_turns_away_few_characters_at_most_and_measures_what_passes(answers, characters, monkeypatch):
    by_energy(monkeypatch)
    energies = energy(characters.logits)
    noise = with_evidence(characters, float(np.median(energies)), -50, 1e3, -50)
    others = {"buildings": with_evidence(characters, *[-100] * 50), "noise": noise}
    found = fit_confidence(characters, answers[1], others)
    measured = found.measured
    assert 0 <= measured["characters_turned_away"]["share"] <= MOST_LOST
    assert measured["taken_for_characters"]["buildings"]["share"] == 0
    assert measured["taken_for_characters"]["noise"]["share"] == 0.5
    assert measured["taken_for_characters"]["noise"]["n"] == 4
    assert [each["fitted_on"] for each in measured["taken_for_characters"].values()] == [True, False]
    # Buildings are told apart by the lowest energy of all already: no character need be turned away.
    assert found.least_energy == energies.min()

    near = with_evidence(characters, *[np.quantile(energies, 0.001)] * 50)
    found = fit_confidence(characters, answers[1], {**others, "buildings": near})
    assert 0.001 <= found.measured["characters_turned_away"]["share"] <= 0.0015


def test_where_the_logits_tell_nothing_the_look_of_an_image_does(answers, characters, monkeypatch):
    """Strangers whose logits are those of characters: half of them rings that the energy has to let pass as well."""
    random = np.random.default_rng(2)
    logits, labels = answers
    others = {
        "buildings": Seen(grain(300, random), logits[:300]),
        "noise": Seen(grain(200, random) // 2 * 2, logits[300:500]),
        "rings": Seen(rings(200, random), logits[500:700]),
    }

    found = fit_confidence(characters, labels, others)

    shares = {name: each["share"] for name, each in found.measured["taken_for_characters"].items()}
    assert shares["buildings"] == shares["noise"] == 0
    assert shares["rings"] > 0.98
    assert found.measured["characters_turned_away"]["share"] <= MOST_LOST
    taken = found.are_characters(logits, characters.fitted)
    assert 1 - taken.mean() == pytest.approx(found.measured["characters_turned_away"]["share"])
    by_energy(monkeypatch)
    alone = fit_confidence(characters, labels, others).measured["taken_for_characters"]
    assert alone["buildings"]["share"] > 0.98


def test_blank_characters_are_turned_away_and_move_no_threshold(answers, characters):
    others = {"buildings": Seen(characters.fitted[:50], characters.logits[:50] - 100)}
    some = Seen(characters.fitted.copy(), characters.logits)
    some.fitted[:40] = 0
    found = fit_confidence(some, answers[1], others)
    assert np.isfinite(found.least_energy)
    assert found.measured["characters_turned_away"]["share"] == 40 / len(answers[1])
    assert fit_confidence(Seen(0 * some.fitted, some.logits), answers[1], others).least_energy is None


def test_blank_characters_change_no_weight(characters):
    strangers = Seen(grain(100, np.random.default_rng(3)), characters.logits[:100])
    blank = Seen(np.zeros((40, 28, 28), np.uint8), np.full((40, 10), -50, np.float32))
    some = Seen(*(np.concatenate(each) for each in zip(characters, blank, strict=True)))
    assert best_weights(some, strangers) == best_weights(characters, strangers)


def test_where_no_stranger_shows_anything_the_energy_stands_alone(characters):
    blank = Seen(np.zeros_like(characters.fitted[:50]), characters.logits[:50])
    assert best_weights(characters, blank) == ENERGY_ALONE


def test_strangers_that_a_network_is_sure_of_are_told_by_that(answers, characters):
    louder = Seen(characters.fitted[:500], characters.logits[:500] + 200)
    found = fit_confidence(characters, answers[1], {"buildings": louder})
    assert found.weights["energy"] < 0
    assert found.measured["taken_for_characters"]["buildings"]["share"] == 0


def test_a_sign_that_is_the_same_for_all_characters_does_no_harm(characters):
    squares = np.zeros_like(characters.fitted)
    squares[:, 8:20, 8:20] = 255
    found = best_weights(
        Seen(squares, characters.logits), Seen(grain(100, np.random.default_rng(3)), characters.logits[:100] - 3)
    )
    assert found.keys() == set(SIGNS)
    assert max(map(abs, found.values())) < 1e5


def test_without_negatives_there_is_a_temperature_alone(answers, characters):
    found = fit_confidence(characters, answers[1], {})
    assert found.least_energy is None
    assert found.weights == ENERGY_ALONE
    assert found.temperature > 2


def test_a_real_model_tells_buildings_from_digits_better_than_chance():
    source = load_source(find("digits", ".safetensors"))
    _, splits = load_dataset_for(source.spec, {}, "digits")
    found = confidence_of(source, Answers(source.graph, source.spec, splits.validation)).measured
    shares = {name: each["share"] for name, each in found["taken_for_characters"].items()}
    assert shares["blank"] == 0
    assert shares["noise"] < 0.01
    assert shares["flowers"] < 0.2 < 1 - found["characters_turned_away"]["share"]
    assert found["cross_entropy"]["after"] <= found["cross_entropy"]["before"]
