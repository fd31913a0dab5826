"""A picture of how a photograph became what the network sees, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .character_parts import Box
from .photo import Photo, View
from .predict import Prediction

_CELL, _GAP, _CAPTION = 260, 12, 20  # pixels of a stage's side, between stages, and of the line above each
_COLUMNS = 4
_PAPER, _TEXT, _BOX = "white", "black", (220, 40, 40)


def explain(image: Image.Image, photo: Photo, fitted: NDArray[np.uint8], prediction: Prediction) -> Image.Image:
    """Return the stages that ``photo`` holds, what they end in, and what the model says of it.

    Args:
        image: of mode L or RGB, that ``photo`` looked at.
        photo: what was made of it.
        fitted: what the network sees, uint8 (height, width).
        prediction: of that.
    """
    close, whole = photo.close, photo.whole
    stages = [
        ("original", _boxed(image, whole)),
        ("grey by ink", _boxed(Image.fromarray(whole.grey), whole)),
        ("paper taken off", Image.fromarray(whole.flat)),
        ("lines taken off", Image.fromarray(whole.unruled)),
        ("strokes", Image.fromarray(_strokes(whole))),
        ("its box, closely", _boxed(Image.fromarray(close.unruled), close)),
        ("its ink", Image.fromarray(close.character())),
        (f"{fitted.shape[0]} x {fitted.shape[1]}: {prediction.preprocessing}", Image.fromarray(fitted)),
    ]
    return _sheet(stages, _words(prediction))


def _strokes(view: View) -> NDArray[np.uint8]:
    """Return all strokes in grey and those of the character in white, uint8 (H, W)."""
    if view.parts is None:
        return np.zeros_like(view.grey)
    every = view.parts.components.mask(np.ones(len(view.parts.components), bool))
    chosen = view.parts.components.mask(view.parts.chosen)
    strokes: NDArray[np.uint8] = np.where(chosen, 255, np.where(every, 110, 0)).astype(np.uint8)
    return strokes


def _boxed(image: Image.Image, view: View) -> Image.Image:
    """Return the image in colour with the box of the character that was found on ``view`` of it."""
    drawn = image.convert("RGB")
    if view.parts is not None:
        scale = max(image.size) / max(view.grey.shape)
        draw_box(drawn, view.parts.box, scale, max(1, max(image.size) // 200))
    return drawn


def draw_box(image: Image.Image, box: Box, scale: float, width: int, colour: tuple[int, int, int] = _BOX) -> None:
    """Draw ``box``, in pixels of an image ``scale`` times as small, around what is in it."""
    top, left, bottom, right = (round(edge * scale) for edge in box)
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - width, top - width, right + width - 1, bottom + width - 1), outline=colour, width=width)


def _words(prediction: Prediction) -> str:
    if not prediction.is_character:
        return "no character"
    return "   ".join(f"{label} {share:.2%}" for label, share in prediction.top)


def _sheet(stages: Sequence[tuple[str, Image.Image]], words: str) -> Image.Image:
    rows = -(-len(stages) // _COLUMNS)
    width, height = (count * (_CELL + _GAP) + _GAP for count in (_COLUMNS, rows))
    sheet = Image.new("RGB", (width, height + (rows + 1) * _CAPTION + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (caption, stage) in enumerate(stages):
        left = _GAP + number % _COLUMNS * (_CELL + _GAP)
        top = _GAP + number // _COLUMNS * (_CELL + _GAP + _CAPTION)
        draw.text((left, top), caption, _TEXT, font)
        scale = _CELL / max(stage.size)
        size = (max(1, round(stage.width * scale)), max(1, round(stage.height * scale)))
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        sheet.paste(stage.convert("RGB").resize(size, how), (left, top + _CAPTION))
    draw.text((_GAP, sheet.height - _CAPTION - _GAP), words, _TEXT, ImageFont.load_default(18))
    return sheet
