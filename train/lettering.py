"""A font for labels of any script, and what stands for the characters that no font here has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_REGULAR = 400  # weight, neither light nor bold
_BOXES = "LastResort"  # the fonts of this name, matplotlib's and macOS's, have a box for every character there is


@dataclass(frozen=True)
class Lettering:
    """A font file and the characters it can draw.

    Attributes:
        font: the file, TrueType or OpenType.
        drawable: the code points that it has.
    """

    font: Path
    drawable: frozenset[int]

    @classmethod
    def for_texts(cls, texts: Iterable[str]) -> Lettering:
        """Return the font with the most characters of ``texts``: DejaVu Sans, which matplotlib brings, unless it lacks.

        Only then are the fonts of this machine searched.
        """
        from matplotlib.font_manager import findfont, fontManager

        wanted = {ord(character) for text in (*texts, "U+0123456789ABCDEF") for character in text}
        best = cls(Path(findfont("DejaVu Sans")), frozenset())
        best = cls(best.font, _code_points(best.font))
        if wanted <= best.drawable:
            return best
        upright = {
            Path(entry.fname)
            for entry in fontManager.ttflist
            if entry.style == "normal" and entry.weight == _REGULAR and _BOXES not in entry.name.replace(" ", "")
        }
        for font in sorted(upright):
            other = cls(font, _code_points(font))
            if len(wanted & other.drawable) > len(wanted & best.drawable):
                best = other
        return best

    def text(self, text: str) -> str:
        """Return ``text`` with ``U+304A`` and the like for what the font lacks or what is no sign, as a line break."""
        return "".join(
            character if character.isprintable() and ord(character) in self.drawable else f"U+{ord(character):04X}"
            for character in text
        )


def _code_points(font: Path) -> frozenset[int]:
    """Return what a font has, nothing if it is gone, broken or made of bitmaps of one size."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(str(font))
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(face.get_charmap()) if face.scalable else frozenset()
