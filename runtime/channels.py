"""Any image that Pillow opens as grey or red, green and blue of 8 bits, with nothing of it clipped away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .images import check_pixels, damage_refused, open_image

_VISIBLE = 128  # opacity from which a pixel is seen
_SEEN_THROUGH = 0.2  # share of the image from which on it is ink on nothing, not paper with a hole
_DARKEST = 0.05  # quantile of what is seen that tells whether there is dark ink in it


def open_channels(source: Path | bytes, name: str, longest: int) -> Image.Image:
    """Return the image in mode L or RGB; arguments and errors as of ``images.open_image``."""
    image = open_image(source, name, longest=longest)
    with damage_refused(name):
        return channels(image)


def channels(image: Image.Image) -> Image.Image:
    """Return ``image`` in mode L or RGB.

    Levels of more than 8 bits are scaled from their darkest to their lightest. What is transparent becomes white, or
    black where all that is seen is light, as white ink on nothing.

    Raises:
        ImageError: as for ``images.turned``.
        Exception: Pillow cannot convert it; see ``images.damage_refused``.
    """
    check_pixels(image)
    if image.mode[0] == "I":
        levels = np.asarray(image).astype(np.float32)
        levels -= levels.min()
        levels /= max(float(levels.max()), 1)
        levels *= 255  # in place: there may be many
        return Image.fromarray(np.rint(levels, out=levels).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, _behind(image))
        ground.paste(image, mask=image)
        return ground
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _behind(image: Image.Image) -> str:
    seen = np.asarray(image.getchannel("A")) >= _VISIBLE
    if not seen.any() or seen.mean() > 1 - _SEEN_THROUGH:
        return "white"
    return "black" if np.quantile(np.asarray(image.convert("RGB").convert("L"))[seen], _DARKEST) > 127 else "white"
