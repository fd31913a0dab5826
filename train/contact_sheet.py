"""Many small images in one picture, each with a caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from quillrt.runtime.files import written_whole

from .lettering import Lettering

# Pixels.
_THUMBNAIL = 96  # about the longer side of an image; small ones are enlarged by a whole factor, so that pixels show
_GAP = 10
_TEXT = 12
_TITLE = 15
_LINE = 1.3  # of the text's size
_GROUND, _INK, _PALE = "white", "#1a1a1a", "#555555"


def contact_sheet(
    path: Path, images: NDArray[np.uint8], captions: Sequence[str], columns: int = 10, title: str = ""
) -> None:
    """Draw images in rows of ``columns`` to ``path`` (PNG), row by row, each with its caption below.

    Args:
        path: the file to write.
        images: grey levels, uint8 (N, H, W); N may be 0.
        captions: one for each image, any text; a line break begins a new line, what is too long ends in an ellipsis.
        columns: images in a row.
        title: stands above; none if empty.

    Raises:
        OSError: the file cannot be written.
    """
    lettering = Lettering.for_texts([*captions, title, "…"])
    small, large = (ImageFont.truetype(str(lettering.font), size) for size in (_TEXT, _TITLE))
    lines = [[lettering.text(line) for line in caption.split("\n")] if caption else [] for caption in captions]
    heading = [lettering.text(line) for line in title.split("\n")] if title else []

    factor = max(1, round(_THUMBNAIL / max(images.shape[1:])))
    height, width = (factor * side for side in images.shape[1:])
    widest = max((small.getlength(line) for each in lines for line in each), default=0)
    cell_width = max(width, min(math.ceil(widest), 2 * width))
    cell_height = height + _line_height(_TEXT) * max(map(len, lines), default=0)
    columns = max(1, min(columns, len(images)))
    rows = math.ceil(len(images) / columns)
    top = _GAP + (len(heading) * _line_height(_TITLE) + _GAP if heading else 0)
    sheet_width = _GAP + columns * (cell_width + _GAP)
    sheet_width = max(sheet_width, *(math.ceil(large.getlength(line)) + 2 * _GAP for line in heading), 0)

    sheet = Image.new("RGB", (sheet_width, top + rows * (cell_height + _GAP)), _GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(heading):
        draw.text((_GAP, _GAP + number * _line_height(_TITLE)), line, fill=_INK, font=large)
    for position, (image, caption) in enumerate(zip(images, lines, strict=True)):
        row, column = divmod(position, columns)
        left, upper = _GAP + column * (cell_width + _GAP), top + row * (cell_height + _GAP)
        enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (left + (cell_width - width) // 2, upper))
        for number, line in enumerate(caption):
            below = upper + height + number * _line_height(_TEXT)
            fill = _INK if number == 0 else _PALE
            draw.text((left + cell_width / 2, below), _cut(line, small, cell_width), fill=fill, font=small, anchor="ma")
    with written_whole(path) as beside:
        sheet.save(beside, format="PNG")


def _line_height(size: int) -> int:
    return round(_LINE * size)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return ``text``, or as much of its beginning as fits ``width`` pixels, and an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
