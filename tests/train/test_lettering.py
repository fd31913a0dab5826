import shutil
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.font_manager import FontEntry

from quillrt.train.lettering import Lettering

DEJAVU = "DejaVuSans.ttf"
LATIN = range(0x20, 0x7F)


def write_font(path, code_points):
    """A font whose every glyph is a square."""
    names = {code: f"g{code}" for code in code_points}
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", *names.values()])
    font.setupCharacterMap(names)
    font.setupGlyf(dict.fromkeys((".notdef", *names.values()), square))
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", *names.values()), (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with DejaVu Sans, a font for Hiragana and Latin, and others that must not be taken for it."""
    dejavu = font_manager.findfont("DejaVu Sans")
    kana = write_font(tmp_path / "kana.ttf", [*LATIN, 0x2026, 0x304A, 0x304D])
    bold = shutil.copy(kana, tmp_path / "bold.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"none")
    boxes = Path(dejavu).with_name("LastResortHE-Regular.ttf")
    fonts = [
        (dejavu, "DejaVu Sans", 400),
        (bold, "Squares", 700),
        (tmp_path / "broken.ttf", "Broken", 400),
        (tmp_path / "gone.ttf", "Gone", 400),
        (boxes, "Last Resort High-Efficiency", 400),
        (kana, "Squares", 400),
    ]
    entries = [FontEntry(fname=str(file), name=name, style="normal", weight=weight) for file, name, weight in fonts]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)


def test_one_font_for_what_it_has(machine):
    lettering = Lettering.for_texts(["a → ß", "Ж", "$x_{"])
    assert lettering.font.name == DEJAVU
    assert lettering.text("a → ß Ж $x_{") == "a → ß Ж $x_{"


def test_a_font_of_this_machine_for_what_it_lacks(machine):
    lettering = Lettering.for_texts(["おき"])
    assert lettering.font.name == "kana.ttf"
    assert lettering.text("お = o") == "お = o"


def test_code_points_for_what_no_font_has(machine):
    """But for "Last Resort", which has a box for everything."""
    lettering = Lettering.for_texts(["\u4e00 is one"])
    assert lettering.font.name == DEJAVU
    assert lettering.text("\u4e00 is one") == "U+4E00 is one"


@pytest.mark.parametrize(("sign", "written"), [("\n", "U+000A"), ("\t", "U+0009"), ("\udc80", "U+DC80")])
def test_what_is_no_sign_is_written_out(sign, written):
    """A folder's name may hold a line break, or a byte that is no UTF-8, which Python reads as a lone surrogate."""
    assert Lettering.for_texts([sign]).text(f"a{sign}b") == f"a{written}b"
