"""A picture of what was read on a page: a box around each character and the answer above it."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from .explanation import draw_box
from .reading import UNREAD, Reading

_READ, _DOUBTED = (20, 130, 60), (220, 40, 40)
_LONGEST = 1600  # pixels of the picture's longer side, at most


def annotate(image: Image.Image, reading: Reading, least: float = 0.0, *, reject: bool = True) -> Image.Image:
    """Return ``image``, of mode L or RGB, with what was read on it; options as for ``Character.doubt``."""
    factor = -(-max(image.size) // _LONGEST)
    drawn = image.convert("RGB").reduce(factor)
    draw = ImageDraw.Draw(drawn)
    for character in (character for line in reading.lines for character in line):
        doubt = character.doubt(least, reject=reject)
        colour = _DOUBTED if doubt else _READ
        draw_box(drawn, character.box, 1 / factor, 1, colour)
        top, left, bottom, _ = character.box
        font = ImageFont.load_default(max(10, round((bottom - top) / factor / 3)))
        answer = UNREAD if doubt else character.prediction.label
        draw.text((left / factor, top / factor - 2), answer, colour, font, anchor="lb")
    return drawn
