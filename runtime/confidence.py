"""How sure an answer is: probabilities that hold what they promise, and images that are no character at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import SpecError
from .texture import FIGURES, figures
from .typed import NUMBER, checked, only

SIGNS = ("energy", "lowest", *FIGURES)  # of a character: energy and lowest of the logits, and how the image looks
ENERGY_ALONE: Mapping[str, float] = {"energy": 1.0}
_MOST_WEIGHT = 1e6
_MOST_EVIDENCE = 1e9
_TEMPERATURES = (1e-6, 1e6)  # beyond them dividing logits ends in infinity or in 0


@dataclass(frozen=True)
class Confidence:
    """What a bundle knows of its model's confidence, found on images that it was not trained on.

    Attributes:
        temperature: logits are divided by it before the softmax (Guo, Pleiss, Sun, Weinberger, "On Calibration of
            Modern Neural Networks", ICML 2017).
        least_energy: an image whose ``evidence`` is below it, or that is blank, is taken for no character; ``None``
            takes every image for one.
        measured: on how many images both were found, and what share of characters and of other images is taken for
            characters by them.
        weights: how much each of ``SIGNS`` counts as evidence; older bundles know the energy alone.
    """

    temperature: float = 1.0
    least_energy: float | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=lambda: dict(ENERGY_ALONE))

    def __post_init__(self) -> None:
        low, high = _TEMPERATURES
        if not low <= self.temperature <= high:
            raise SpecError(f"the temperature must be {low:g} to {high:g}, but is {self.temperature}")
        if self.least_energy is not None and not abs(self.least_energy) <= _MOST_EVIDENCE:
            raise SpecError(f"the least energy must be {_MOST_EVIDENCE:g} at most, but is {self.least_energy}")
        for name, weight in self.weights.items():
            if not abs(weight) <= _MOST_WEIGHT:  # NaN too
                raise SpecError(f"the weight of {name} must be {_MOST_WEIGHT:g} at most, but is {weight}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Confidence:
        """Return the confidence that ``dataclasses.asdict`` and JSON made plain.

        Raises:
            SpecError: a value cannot be.
            TypeError: ``data`` or a value in it is of another type, or a name is unknown.
        """
        only(data, (each.name for each in fields(cls)), "confidence")
        for name in ("temperature", "least_energy"):
            if data.get(name) is not None or (name == "temperature" and name in data):
                checked(data[name], NUMBER, f"the {name}")
        for name, weight in only(data.get("weights", ENERGY_ALONE), SIGNS, "the table of weights").items():
            checked(weight, NUMBER, f"the weight of {name}")
        _check_measured(checked(data.get("measured", {}), dict, "what was measured of confidence"))
        return cls(**data)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities float64 (N, K) of logits (N, K)."""
        return softmax(logits / self.temperature)

    def are_characters(self, logits: NDArray[np.float32], fitted: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether each image, fitted uint8 (N, H, W) with logits (N, K), is taken for a character, (N,)."""
        if self.least_energy is None:
            return np.ones(len(logits), bool)
        return evidence(logits, fitted, self.weights) >= self.least_energy


AS_IT_IS = Confidence()


def _check_measured(measured: Mapping[str, Any]) -> None:
    """Raise unless numbers stand where ``inspect`` shows some.

    Raises:
        SpecError: a share is below 0 or above 1.
        TypeError: something else does, or nothing.
    """
    if measured:
        checked(measured.get("n"), int, "the n of confidence")
    shares = [*checked(measured.get("taken_for_characters", {}), dict, "what is taken for characters").values()]
    if "characters_turned_away" in measured:
        shares.append(measured["characters_turned_away"])
    for found in shares:
        share = checked(checked(found, dict, "a share of images").get("share"), NUMBER, "a share")
        if not 0 <= share <= 1:
            raise SpecError(f"a share must be 0 to 1, but is {share}")
        checked(found.get("n"), int, "the n of a share")


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return softmax over the last axis, float64 (N, K); the row's maximum goes first, so that nothing overflows."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def evidence(
    logits: NDArray[np.float32], fitted: NDArray[np.uint8], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return how much speaks for a character on each image, (N,), minus infinity where there is nothing on it.

    It is the sum of its signs by their ``weights``.

    Args:
        logits: (N, K).
        fitted: uint8 (N, H, W).
        weights: by names out of ``SIGNS``.
    """
    seen = signs(logits, fitted, weights)
    found = sum((weight * seen[name] for name, weight in weights.items()), np.zeros(len(logits)))
    return np.where(fitted.any(axis=(1, 2)), found, -np.inf)


def signs(
    logits: NDArray[np.float32], fitted: NDArray[np.uint8], names: Collection[str] = SIGNS
) -> dict[str, NDArray[np.float64]]:
    """Return ``SIGNS``, those of ``names`` at least, of images uint8 (N, H, W) and their logits (N, K), each (N,)."""
    seen = {"energy": energy(logits), "lowest": logits.min(axis=-1).astype(np.float64)}
    return seen if seen.keys() >= set(names) else seen | figures(fitted)


def energy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log Σ exp(logit) of each row, (N,): small where no class speaks for the image.

    Its negative is the energy of W. Liu, X. Wang, J. Owens, Y. Li, "Energy-based Out-of-distribution Detection",
    NeurIPS 2020, equation 4, at temperature 1.
    """
    values = logits.astype(np.float64)
    most = values.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = (most + np.log(np.exp(values - most).sum(axis=-1, keepdims=True)))[..., 0]
    return result
