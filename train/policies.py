"""How far training images are varied: plain numbers, by name or one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

from quillrt.runtime.errors import ConfigError


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; every image of every batch draws its own amounts up to these. 0 is none.

    Attributes:
        rotation: degrees either way.
        translation: share of the side, either way.
        scale: share by which each side grows or shrinks on its own.
        shear: slant, columns per row, either way.
        perspective: tilt of the field, 1 for a vanishing point on its border.
        elastic: local displacement, standard deviation as a share of half the side.
        crop: pixels of padding around the image, out of which a field of its size is cut.
        hflip: probability of a mirror image. No policy has it: mirrored, few characters stay what they are, and a b
            becomes a d.
        stroke: 0..1, how far strokes thicken to their neighbours or thin to their cores.
        contrast: share of the ink's grey level that may fade, as with a pencil.
        blur: standard deviation in pixels.
        grain: 0..1, how far the paper's texture breaks the ink.
        shadow: standard deviation of the grey level 0..1 that a slow gradient over the field adds to the ground.
        noise: standard deviation of each pixel's grey level 0..1.
        erasing: probability that a square of 4 to 10 pixels is blank.
    """

    rotation: float = 0.0
    translation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    elastic: float = 0.0
    crop: int = 0
    hflip: float = 0.0
    stroke: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    grain: float = 0.0
    shadow: float = 0.0
    noise: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= _MOST.get(name, 1):
                raise ConfigError(f"expected as {name} of an augmentation 0..{_MOST.get(name, 1)}, found {value}")

    def vary(self, changes: Iterable[str]) -> Augmentation:
        """Return this with changes such as ``rotation=20``.

        Raises:
            ConfigError: a change is no ``NAME=NUMBER``, has an unknown name or lies outside its bounds.
        """
        known = [f.name for f in fields(self)]
        numbers: dict[str, float] = {}
        for change in changes:
            name, _, text = change.partition("=")
            try:
                numbers[name] = int(text) if name == "crop" else float(text)
            except ValueError:
                numbers[name] = math.nan
            if name not in known:
                raise ConfigError(f"expected NAME=NUMBER with a name out of {', '.join(known)}, found {change!r}")
            if not math.isfinite(numbers[name]):
                kind = "whole number" if name == "crop" else "number"
                raise ConfigError(f"expected {name}=NUMBER with a finite {kind}, found {change!r}")
        return replace(self, **numbers)  # type: ignore[arg-type]


_MOST = {"rotation": 180, "crop": 64, "blur": 16}

_STRONG = Augmentation(rotation=12, translation=0.08, scale=0.12, shear=0.15, elastic=0.04, stroke=0.5)
POLICIES = {
    "none": Augmentation(),
    "light": Augmentation(rotation=8, translation=0.05, scale=0.08, shear=0.08),
    "strong": _STRONG,
    "photo": replace(_STRONG, stroke=0.7, contrast=0.3, blur=0.6, grain=0.3, shadow=0.05, noise=0.03),
}


def policy(name: str, changes: Iterable[str] = ()) -> Augmentation:
    """Return the policy called ``name`` with ``changes``.

    Raises:
        ConfigError: no policy has this name, or see ``Augmentation.vary``.
    """
    if name not in POLICIES:
        raise ConfigError(f"expected an augmentation out of {', '.join(POLICIES)}, found {name!r}")
    return POLICIES[name].vary(changes)
