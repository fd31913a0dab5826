"""Temperature and threshold of a model, found on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.confidence import ENERGY_ALONE, SIGNS, Confidence, energy, evidence, signs
from quillrt.runtime.predict import run_images
from quillrt.train.negatives import negatives
from quillrt.train.wilson import wilson_interval

from .answers import Answers
from .logistic import weights_between
from .source import Source

# Share of characters that a threshold may turn away. Of photographs, which no validation part has, it turns away more:
# by the energy alone at 0.01 measured 6 % of 200 digits, at 0.003 1 %.
MOST_LOST = 0.003
_STEPS = 21
# On which negatives weights and threshold are found; their false accepts are measured on the others.
_FITTED_ON = ("buildings",)
_RIDGE = 0.01  # see ``weights_between``; the weights are those in deviations of characters
_LEAST_DEVIATION = 1e-3  # what hardly differs among characters gets no boundless weight
_AT_ONCE = 256  # images looked at
_TEMPERATURES = (0.05, 20.0)


class Seen(NamedTuple):
    """What a network was shown, uint8 (N, H, W), and its logits, float32 (N, K)."""

    fitted: NDArray[np.uint8]
    logits: NDArray[np.float32]

    def parts(self) -> Iterator[Seen]:
        """Yield a few at a time, however large the images are."""
        for start in range(0, len(self.fitted), _AT_ONCE):
            yield Seen(self.fitted[start : start + _AT_ONCE], self.logits[start : start + _AT_ONCE])

    def drawn(self) -> Seen:
        """Return those that are not blank."""
        drawn = self.fitted.any(axis=(1, 2))
        return Seen(self.fitted[drawn], self.logits[drawn])


def fit_confidence(characters: Seen, labels: NDArray[np.int64], others: Mapping[str, Seen]) -> Confidence:
    """Return the temperature with the least cross entropy, and the evidence that tells characters from ``others``.

    Of the thresholds that turn away up to 0.3 % of the characters it is the one with the fewest errors of both kinds on
    the buildings; how many of the rest pass is measured, and kept.

    Args:
        characters: images of characters.
        labels: int64 (N,), theirs.
        others: images that are none, by what they show; nothing: no threshold is found, nor where all
            characters are blank.
    """
    logits = characters.logits
    temperature = best_temperature(logits, labels)
    measured: dict[str, Any] = {
        "n": len(labels),
        "cross_entropy": {
            "before": cross_entropy(logits, labels, 1.0),
            "after": cross_entropy(logits, labels, temperature),
        },
    }
    if not others or not characters.fitted.any():
        return Confidence(temperature, measured=measured)
    fitted_on = [others[name] for name in _FITTED_ON]
    strangers = Seen(*(np.concatenate(each) for each in zip(*fitted_on, strict=True)))
    weights = best_weights(characters, strangers)

    def speaks(seen: Seen) -> NDArray[np.float64]:
        return np.concatenate([evidence(part.logits, part.fitted, weights) for part in seen.parts()])

    ours, theirs = speaks(characters), speaks(strangers)
    candidates = np.quantile(ours[np.isfinite(ours)], np.linspace(0, MOST_LOST, _STEPS), method="lower")
    errors = [(ours < each).mean() + (theirs >= each).mean() for each in candidates]
    least = float(candidates[int(np.argmin(errors))])
    measured["characters_turned_away"] = _share(int((ours < least).sum()), len(ours))
    measured["taken_for_characters"] = {
        name: {**_share(int((speaks(seen) >= least).sum()), len(seen.fitted)), "fitted_on": name in _FITTED_ON}
        for name, seen in others.items()
    }
    return Confidence(temperature, least, measured, weights)


def best_weights(characters: Seen, strangers: Seen) -> Mapping[str, float]:
    """Return the weights of ``SIGNS`` by a logistic regression of characters against ``strangers``.

    Both count the same in it, whatever their numbers. Blank images are left out, as they need no weights; where
    strangers are nothing but those, the energy stands alone.
    """
    if not strangers.fitted.any():
        return ENERGY_ALONE
    ours, theirs = (_table(each.drawn()) for each in (characters, strangers))
    middle, deviations = ours.mean(axis=0), np.maximum(ours.std(axis=0), _LEAST_DEVIATION)
    found = weights_between((ours - middle) / deviations, (theirs - middle) / deviations, _RIDGE) / deviations
    return {name: float(f"{weight:.4g}") for name, weight in zip(SIGNS, found, strict=True)}


def confidence_of(source: Source, answers: Answers) -> Confidence:
    """Return what the FP32 graph's answers on the validation part, and on images of no character, tell.

    Args:
        source: the graph.
        answers: on the validation part.

    Raises:
        BundleError: onnxruntime refuses the graph.
        AccuracyError: a logit is NaN or infinite.
    """
    characters = Seen(answers.fitted, answers.reference)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        strange = negatives(source.spec.preprocessing)
        others = {name: Seen(images, run_images(session, images)) for name, images in strange.items()}
    return fit_confidence(characters, answers.labels, others)


def best_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the temperature (0.05 to 20) with the least cross entropy, to four digits.

    Cross entropy is convex in 1 / temperature, so that golden-section search finds it.
    """
    low, high = (1 / each for each in reversed(_TEMPERATURES))
    ratio = (np.sqrt(5) - 1) / 2
    while high - low > 1e-5 * high:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if cross_entropy(logits, labels, 1 / left) <= cross_entropy(logits, labels, 1 / right):
            high = right
        else:
            low = left
    return float(f"{2 / (low + high):.4g}")


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> float:
    """Return the mean negative log-likelihood of ``labels`` (N,) under softmax(``logits`` (N, K) / temperature)."""
    scaled = logits.astype(np.float64) / temperature
    return float((energy(scaled) - scaled[np.arange(len(labels)), labels]).mean())


def _table(seen: Seen) -> NDArray[np.float64]:
    """Return ``SIGNS`` of each image, (N, len(SIGNS))."""
    found = (signs(part.logits, part.fitted) for part in seen.parts())
    return np.concatenate([np.stack([each[name] for name in SIGNS], axis=1) for each in found])


def _share(count: int, n: int) -> dict[str, Any]:
    """Return a share with n and Wilson's interval at 95 %."""
    low, high = wilson_interval(count, n)
    return {"share": count / n, "n": n, "low": low, "high": high}
