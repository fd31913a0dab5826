"""From an image as it was read to what the network sees, by one of the ways in which images are prepared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .channels import channels
from .errors import ConfigError
from .images import damage_refused, grey, open_image
from .photo import LONGEST, Photo, look
from .preprocessing import Preprocessing, fit_each, fit_image, fit_ink
from .stroke_width import usual_strokes

AUTO, AS_IS, PHOTO = "auto", "as-is", "photo"
WAYS = (AUTO, AS_IS, PHOTO)
_TINY = 12  # pixels of the shorter side below which there is too little to look at


class Way(NamedTuple):
    """How an image was prepared, ``as-is`` or ``photo``, and why so."""

    preprocessing: str
    because: str


NOT_CHOSEN = Way(AS_IS, "asked for")


@dataclass(frozen=True)
class Prepared:
    """An image that is ready for a network.

    Attributes:
        fitted: uint8 (height, width), light ink on dark; black where no character was found.
        preprocessing: the way it was prepared in, ``as-is`` or ``photo``.
        because: why in that one.
    """

    fitted: NDArray[np.uint8]
    preprocessing: str
    because: str

    @property
    def way(self) -> Way:
        """How it became that, and why so."""
        return Way(self.preprocessing, self.because)


@dataclass(frozen=True)
class Unfitted:
    """An image that is to be fitted as it is: grey levels, uint8 (H, W), and why so."""

    grey: NDArray[np.uint8]
    way: Way


def prepare(image: Image.Image, recipe: Preprocessing, way: str = AUTO) -> Prepared:
    """Prepare one image.

    Args:
        image: of any size, and of any mode that ``images.check_pixels`` lets pass.
        recipe: the model's.
        way: ``as-is`` turns and fits what is white on black or the other way round, and roughly cropped; ``photo``
            finds the one character of a photograph, on whatever paper in whatever light; ``auto`` leaves to ``as-is``
            what is as small as the network's input, or is cropped and on even paper without lines or specks.

    Raises:
        ConfigError: there is no such way.
        ImageError: the image's pixels cannot be read as ink.
    """
    check_way(way)
    begun = begin(image, recipe, way)
    return begun if isinstance(begun, Prepared) else Prepared(fit_image(begun.grey, recipe), *begun.way)


def begin(image: Image.Image, recipe: Preprocessing, way: str) -> Prepared | Unfitted:
    """Prepare one image as ``prepare`` does, but for fitting it as it is: ``fit_all`` does so for several at once."""
    if way == AS_IS:
        return Unfitted(grey(image), NOT_CHOSEN)
    if way == AUTO and (because := _fit_as_they_are(image, recipe)):
        return Unfitted(grey(image), Way(AS_IS, because))
    photo = look(channels(image))
    because = "asked for"
    if way == AUTO:
        because = "large" if max(image.size) >= LONGEST else photo.trouble
        if not because:
            return Unfitted(grey(image), Way(AS_IS, "cropped, on even paper"))
    return Prepared(fit_photo(photo, recipe), PHOTO, because)


def fit_all(begun: Iterable[Prepared | Unfitted], recipe: Preprocessing) -> tuple[NDArray[np.uint8], list[Way]]:
    """Return what ``begin`` gave, all fitted, uint8 (N, height, width), and the ways."""
    ways: list[Way] = []
    ready: dict[int, NDArray[np.uint8]] = {}

    def unfitted() -> Iterator[NDArray[np.uint8]]:
        for each in begun:
            ways.append(each.way)
            if isinstance(each, Unfitted):
                yield each.grey
            else:
                ready[len(ways) - 1] = each.fitted

    rest = fit_each(unfitted(), recipe)
    if not ready:
        return rest, ways
    fitted = np.empty((len(ways), recipe.height, recipe.width), np.uint8)
    fitted[list(ready)] = np.stack(list(ready.values()))
    fitted[[place for place in range(len(ways)) if place not in ready]] = rest
    return fitted, ways


def fit_photo(photo: Photo, recipe: Preprocessing) -> NDArray[np.uint8]:
    """Return the character of a photograph as uint8 (recipe.height, recipe.width), black if there is none."""
    return fit_ink(usual_strokes(photo.close.character()), recipe)


def check_way(way: str) -> None:
    """Raise unless there is such a way.

    Raises:
        ConfigError: there is not.
    """
    if way not in WAYS:
        raise ConfigError(f"expected preprocessing out of {', '.join(WAYS)}, found {way!r}")


def read(
    source: Path | bytes, recipe: Preprocessing, way: str, name: str | None = None, max_pixels: int | None = None
) -> Image.Image:
    """Return an image as ``begin`` wants it; a large JPEG is decoded no finer than is needed.

    Args:
        source: a file, or a file's content.
        recipe: as for ``prepare``.
        way: as for ``prepare``.
        name: what messages call it; the file's path by default.
        max_pixels: as for ``images.read_image``.

    Raises:
        ImageError: it cannot be read; see ``images.read_image``.
    """
    return open_image(source, name, max_pixels, longest_side(recipe, way))


def longest_side(recipe: Preprocessing, way: str) -> int | None:
    """Return the pixels of the longer side that are enough for ``prepare``, ``None`` where none may be left out."""
    return None if way == AS_IS or (way == AUTO and recipe.fit == "resize") else LONGEST


def prepare_file(
    source: Path | bytes,
    recipe: Preprocessing,
    way: str = AUTO,
    name: str | None = None,
    max_pixels: int | None = None,
) -> Prepared:
    """Read and prepare one image; arguments and errors as of ``read`` and ``prepare``."""
    image = read(source, recipe, way, name, max_pixels)
    with damage_refused(name or (str(source) if isinstance(source, Path) else "image")):
        return prepare(image, recipe, way)


def _fit_as_they_are(image: Image.Image, recipe: Preprocessing) -> str:
    """Return why an image need not be looked at, nothing if it has to be."""
    if recipe.fit == "resize":
        return "the model wants images whole"
    if image.size == (recipe.width, recipe.height):
        return "of the network's size"
    return "tiny" if min(image.size) < _TINY else ""
