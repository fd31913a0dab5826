"""Temperature and threshold of a model, found on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.backends import open_session
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.confidence import Confidence, energy, evidence
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.predict import run_images
from quillrt.train.negatives import negatives
from quillrt.train.wilson import wilson_interval

from .answers import Answers
from .source import Source

# Share of characters that a threshold may turn away. Of photographs, which no validation part has, it turns away more:
# at 0.01 measured 6 % of 200 digits, at 0.003 1 %.
MOST_LOST = 0.003
_STEPS = 21
# On which negatives the threshold is found; its false accepts are measured on the others.
_FITTED_ON = ("buildings",)
_TEMPERATURES = (0.05, 20.0)


def fit_confidence(
    logits: NDArray[np.float32], labels: NDArray[np.int64], others: Mapping[str, NDArray[np.float64]]
) -> Confidence:
    """Return the temperature with the least cross entropy, and the energy that tells characters from ``others``.

    Of the energies that turn away up to 0.3 % of the characters it is the one with the fewest errors of both kinds on
    the buildings; how many of the rest pass is measured, and kept.

    Args:
        logits: float32 (N, K) of characters.
        labels: int64 (N,), theirs.
        others: ``evidence`` (M,) of images that are none, by what they show; nothing: no threshold is found.
    """
    temperature = best_temperature(logits, labels)
    measured: dict[str, Any] = {
        "n": len(labels),
        "cross_entropy": {
            "before": cross_entropy(logits, labels, 1.0),
            "after": cross_entropy(logits, labels, temperature),
        },
    }
    if not others:
        return Confidence(temperature, None, measured)
    characters = energy(logits)
    strangers = np.concatenate([others[name] for name in _FITTED_ON])
    candidates = np.quantile(characters, np.linspace(0, MOST_LOST, _STEPS), method="lower")
    errors = [(characters < each).mean() + (strangers >= each).mean() for each in candidates]
    least = float(candidates[int(np.argmin(errors))])
    measured["characters_turned_away"] = _share(int((characters < least).sum()), len(characters))
    measured["taken_for_characters"] = {
        name: {**_share(int((found >= least).sum()), len(found)), "fitted_on": name in _FITTED_ON}
        for name, found in others.items()
    }
    return Confidence(temperature, least, measured)


def confidence_of(source: Source, validation: ImageSet, cache: Cache = NO_CACHE) -> Confidence:
    """Return what the FP32 graph's answers on the validation part, and on images of no character, tell.

    Raises:
        BundleError: onnxruntime refuses the graph.
        AccuracyError: a logit is NaN or infinite.
    """
    logits = Answers(source.spec, validation, cache).logits(source.graph)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        strange = negatives(source.spec.preprocessing)
        others = {name: evidence(run_images(session, images), images) for name, images in strange.items()}
    return fit_confidence(logits, validation.labels, others)


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


def _share(count: int, n: int) -> dict[str, Any]:
    """Return a share with n and Wilson's interval at 95 %."""
    low, high = wilson_interval(count, n)
    return {"share": count / n, "n": n, "low": low, "high": high}
