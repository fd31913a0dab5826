"""Any image that Pillow opens as grey or red, green and blue of 8 bits, with nothing of it clipped away."""

from __future__ import annotations

import numpy as np
from PIL import Image

_VISIBLE = 128  # opacity from which a pixel is seen
_SEEN_THROUGH = 0.2  # share of the image from which on it is ink on nothing, not paper with a hole
_DARKEST = 0.05  # quantile of what is seen that tells whether there is dark ink in it


def channels(image: Image.Image) -> Image.Image:
    """Return ``image`` in mode L or RGB.

    Levels of more than 8 bits are scaled from their darkest to their lightest. What is transparent becomes white, or
    black where all that is seen is light, as white ink on nothing.
    """
    if image.mode[0] in "IF":
        levels = np.asarray(image).astype(np.float32)
        finite = np.isfinite(levels)
        darkest, lightest = (levels[finite].min(), levels[finite].max()) if finite.any() else (0, 0)
        share = np.clip(np.nan_to_num((levels - darkest) / max(lightest - darkest, 1e-6)), 0, 1)
        return Image.fromarray(np.rint(255 * share).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, _behind(image)), image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _behind(image: Image.Image) -> str:
    seen = np.asarray(image.getchannel("A")) >= _VISIBLE
    if not seen.any() or seen.mean() > 1 - _SEEN_THROUGH:
        return "white"
    return "black" if np.quantile(np.asarray(image.convert("RGB").convert("L"))[seen], _DARKEST) > 127 else "white"
