"""Images that are no character: what a model has to turn away, to find out from which confidence on it does."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.images import grey
from quillrt.runtime.preprocessing import Preprocessing, fit_image

_SEED = 0
_SIDES = (24, 300)  # pixels of a crop's side: from a corner of a roof to a street
_BLANKS = range(0, 256, 4)  # sheets of paper in every light


def negatives(recipe: Preprocessing, crops: int = 1000) -> dict[str, NDArray[np.uint8]]:
    """Return images fitted by ``recipe``, uint8 (N, height, width), by what they show; none without scikit-learn.

    ``buildings`` and ``flowers`` are crops of many sizes from the two photographs that scikit-learn has with it
    (china.jpg, flower.jpg); ``noise`` is even noise, ``blank`` are sheets of one grey level.
    """
    package = find_spec("sklearn")
    # To import it takes two seconds, and there is nothing but two files to read.
    photographs = Path(package.origin).parent / "datasets" / "images" if package and package.origin else None
    if photographs is None or not photographs.is_dir():
        return {}
    from PIL import Image

    random = np.random.default_rng(_SEED)
    found = {}
    for name, file in (("buildings", "china.jpg"), ("flowers", "flower.jpg")):
        photograph = grey(Image.open(photographs / file))
        found[name] = np.stack([fit_image(_crop(photograph, random), recipe) for _ in range(crops)])
    noise = random.integers(0, 256, (crops // 4, 40, 40), np.uint8)
    found["noise"] = np.stack([fit_image(image, recipe) for image in noise])
    found["blank"] = np.stack([fit_image(np.full((40, 40), level, np.uint8), recipe) for level in _BLANKS])
    return found


def _crop(photograph: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a square of ``photograph`` of any place and size, small ones as often as large ones."""
    side = int(math.exp(random.uniform(math.log(_SIDES[0]), math.log(_SIDES[1]))))
    top, left = (int(random.integers(0, size - side)) for size in photograph.shape)
    return photograph[top : top + side, left : left + side]
