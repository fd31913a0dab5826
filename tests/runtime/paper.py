"""Photographs of handwriting on paper, made up: strokes, squares, shadows, ink, blur, noise; where all is, is known."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

INKS = {
    "black": (25, 25, 28),
    "blue": (30, 40, 130),
    "red": (185, 25, 35),
    "green": (15, 105, 55),
    "pencil": (95, 95, 98),
}
LINES = {"blue": (150, 180, 225), "grey": (170, 170, 172), "dark": (120, 130, 150), "pink": (235, 160, 170)}
# Digits as a pen writes them: polylines in a box of 6 x 10.
PEN = {
    "0": [[(3, 0), (1, 1), (0, 4), (0, 6), (1, 9), (3, 10), (5, 9), (6, 6), (6, 4), (5, 1), (3, 0)]],
    "1": [[(1, 2), (3, 0), (3, 10)]],
    "2": [[(0, 2), (1, 0.5), (3, 0), (5, 0.7), (6, 2.5), (5, 5), (0, 10), (6, 10)]],
    "3": [[(0, 1), (3, 0), (5.5, 1), (5.5, 3.5), (2.5, 4.8), (5.5, 6), (6, 8), (4, 10), (1, 10), (0, 9)]],
    "4": [[(4.5, 10), (4.5, 0), (0, 6.5), (6, 6.5)]],
    "5": [[(0.7, 0), (0.5, 4.3), (3, 3.8), (5.5, 5), (6, 7.5), (4.5, 9.6), (2, 10), (0, 9)], [(0.7, 0), (5.5, 0)]],
    "6": [[(5, 0), (2, 2.5), (0.3, 6), (0.5, 8.7), (2.5, 10), (5, 9.3), (6, 7.3), (5, 5.5), (3, 5), (0.6, 6.3)]],
    "7": [[(0, 0), (6, 0), (2.5, 10)]],
    "8": [[(3, 4.7), (0.8, 2.7), (1.2, 0.7), (3, 0), (5, 0.7), (5.2, 2.7), (3, 4.7), (0.4, 7), (1, 9.3), (3, 10),
           (5.2, 9.3), (5.8, 7), (3, 4.7)]],
    "9": [[(5.7, 3), (4, 5), (1.5, 4.8), (0.3, 3), (1.2, 0.8), (3.3, 0), (5.3, 1), (5.7, 3), (5.2, 10)]],
}  # fmt: skip


def pen(label, height, width):
    """Ink, float (H, W) from 0 to 1, of a digit ``height`` pixels high in strokes ``width`` pixels wide."""
    up = 4  # drawn larger, for grey edges
    scale, edge = (height - width) / 10, width
    image = Image.new("L", (up * round(6 * scale + 2 * edge), up * round(10 * scale + 2 * edge)))
    draw = ImageDraw.Draw(image)
    for line in PEN[label]:
        points = [(up * (edge + x * scale), up * (edge + y * scale)) for x, y in line]
        draw.line(points, 255, round(up * width), joint="curve")
        for x, y in points:
            draw.circle((x, y), up * width / 2, 255)
    return np.asarray(image.reduce(up)).astype(np.float32) / 255


def enlarged(image, height):
    """Ink of light strokes on black, uint8 (h, w), cut to its box and made ``height`` pixels high, with hard edges."""
    rows, columns = np.flatnonzero(image.max(axis=1) > 40), np.flatnonzero(image.max(axis=0) > 40)
    box = Image.fromarray(image).crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    scale = height / max(box.size)
    box = box.resize((max(3, round(box.width * scale)), max(3, round(box.height * scale))), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(box).astype(np.float32) - 90) / 60, 0, 1)


@dataclass
class Paper:
    """A sheet seen by a camera; ``photograph`` lays ink on it.

    ``ruling`` is None, ``ruled`` or ``squares``; ``spacing`` and ``thickness`` of its lines are in pixels; ``turn`` in
    degrees and ``perspective`` as a share say how it lies; ``shadow`` is the light that a cast shadow takes, and
    ``soft`` the pixels over which it begins.
    """

    height: int = 300
    width: int = 400
    ruling: str | None = None
    spacing: float = 30.0
    thickness: float = 1.5
    line: str = "blue"
    ink: str = "black"
    turn: float = 0.0
    perspective: float = 0.0
    shadow: float = 0.0
    soft: float = 2.0
    vignette: float = 0.0
    specks: int = 0
    noise: float = 1.5
    is_board: bool = False
    seed: int = 0
    boxes: list = field(default_factory=list)

    def photograph(self, *inks):
        """Return the photograph, RGB uint8 (H, W, 3), of ``inks``, each (ink float (h, w), top, left)."""
        random = np.random.default_rng(self.seed)
        rows, columns = np.mgrid[: self.height, : self.width].astype(np.float32)
        y, x = rows - self.height / 2, columns - self.width / 2
        angle, depth = np.deg2rad(self.turn), 1 + self.perspective * (x / self.width + y / self.height)
        u, v = (np.cos(angle) * x + np.sin(angle) * y) / depth, (np.cos(angle) * y - np.sin(angle) * x) / depth
        sheet = np.full((self.height, self.width, 3), (243, 241, 232), np.float32)
        sheet *= 1 + 0.006 * random.standard_normal((self.height, self.width, 1)).astype(np.float32)
        for along in {None: (), "ruled": (v,), "squares": (v, u)}[self.ruling]:
            distance = np.abs((along + 7) % self.spacing - self.spacing / 2)
            cover = np.clip(self.thickness / 2 + 0.5 - distance, 0, 1)[:, :, None]
            sheet *= 1 - cover * (1 - np.array(LINES[self.line], np.float32) / 255)
        cover = np.zeros((self.height, self.width), np.float32)
        for ink, top, left in inks:
            place = cover[top : top + ink.shape[0], left : left + ink.shape[1]]
            np.maximum(place, ink[: place.shape[0], : place.shape[1]], out=place)
            self.boxes.append((top, left, top + ink.shape[0], left + ink.shape[1]))
        for _ in range(self.specks):
            row, column = random.integers(0, self.height - 2), random.integers(0, self.width - 2)
            if not cover[max(0, row - 8) : row + 8, max(0, column - 8) : column + 8].any():
                cover[row : row + 2, column : column + 2] = 0.8
        cover = cover[:, :, None]
        sheet = sheet * (1 - cover) + cover * np.minimum(sheet, np.array(INKS[self.ink], np.float32))
        light = 0.9 - self.vignette * ((x / self.width) ** 2 + (y / self.height) ** 2)
        edge = np.clip(-(x + 0.6 * y - 0.1 * self.width) / self.soft, -30, 30)
        light = light * (1 - self.shadow / (1 + np.exp(edge)))
        sheet = (250 - sheet if self.is_board else sheet) * light[:, :, None] * (1, 0.98, 0.92)
        sheet += random.normal(0, self.noise, sheet.shape)
        return np.clip(sheet, 0, 255).astype(np.uint8)
