"""Reading image files as grey arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import ImageError, QuillError
from .files import read_bounded

MOST_BYTES = 2**28  # of a file; ``MAX_PIXELS`` in colour, not compressed, are 192 million
MAX_PIXELS = 64_000_000  # above the largest phone cameras' usual output, far below what a decompression bomb claims
# The rest stays out: for EPS Pillow starts Ghostscript. The first five cost no import.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_PIXELS_AT_ONCE = 2**20
# Exif 2.3, tag 274: where row 0 and column 0 of the stored picture belong.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
T = TypeVar("T")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})


def read_image(source: Path | bytes, name: str | None = None, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Return the image as grey levels, uint8 (H, W): turned as EXIF says, transparent parts laid on white.

    Of an animation, or of several pages, the first image is decoded and the others are not looked at.

    Args:
        source: a file, or a file's content.
        name: what messages call it; the file's path by default.
        max_pixels: how many it may have; ``MAX_PIXELS`` by default.

    Raises:
        ImageError: no file, an empty one, no image, a truncated one, or more than ``MOST_BYTES`` or ``max_pixels``.
    """
    return _decoded(source, name, max_pixels, None, grey)


def open_image(
    source: Path | bytes, name: str | None = None, max_pixels: int | None = None, longest: int | None = None
) -> Image.Image:
    """Return the image decoded, in whatever mode it has, turned as EXIF says.

    Args:
        source: as for ``read_image``.
        name: as for ``read_image``.
        max_pixels: as for ``read_image``.
        longest: pixels of the longer side that are enough; a JPEG is then decoded at a half or less of its size, which
            takes less time.

    Raises:
        ImageError: as for ``read_image``.
    """
    return _decoded(source, name, max_pixels, longest, turned)


def _decoded(
    source: Path | bytes,
    name: str | None,
    max_pixels: int | None,
    longest: int | None,
    made: Callable[[Image.Image], T],
) -> T:
    limit = max_pixels or MAX_PIXELS
    name = name or (str(source) if isinstance(source, Path) else "image")
    try:
        data = read_bounded(source, MOST_BYTES) if isinstance(source, Path) else source
    except (OSError, ValueError) as error:  # the second of a null in its name
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"expected an image file at {name}, but {why}; check the path") from error
    if not data:
        raise ImageError(f"expected an image, but {name} is empty (0 bytes); give a PNG or JPEG")
    with damage_refused(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow says of damaged EXIF data; the image itself may be whole
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > limit:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height}")
                if longest is not None and max(image.size) > longest:
                    width, height = (longest * side // max(image.size) for side in image.size)
                    image.draft(None, (width, height))
                return made(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(
                f"expected at most {limit:,} pixels, but {name} claims more ({error}); shrink it"
            ) from error
        except UnidentifiedImageError as error:
            raise ImageError(
                f"expected an image ({', '.join(_FORMATS)}), but {name} is none; give a PNG or JPEG"
            ) from error


@contextmanager
def damage_refused(name: str) -> Iterator[None]:
    """Make an ``ImageError`` of what comes out of Pillow: on damaged files its decoders raise errors of every kind.

    Args:
        name: what the message calls the image.

    Raises:
        ImageError: anything was raised but a ``QuillError`` or a ``MemoryError``, which stay what they are.
    """
    try:
        yield
    except (QuillError, MemoryError):
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"expected a whole image, but {name} is damaged: {why}; copy it again") from error


def turned(image: Image.Image) -> Image.Image:
    """Return the image decoded, and turned as EXIF says.

    Raises:
        ImageError: it has no pixels, or they are of floating point, for which nobody knows what is white, or L*a*b*.
        Exception: Pillow cannot decode it; see ``damage_refused``.
    """
    check_pixels(image)
    image.load()
    return image if _turn(image) is None else ImageOps.exif_transpose(image)  # which a second time changes nothing


def grey(image: Image.Image) -> NDArray[np.uint8]:
    """Return the image's grey levels, uint8 (H, W), turned as EXIF says, transparent parts laid on white.

    Beside the decoded image there is never more in memory than the result, twice, and some rows.

    Raises:
        ImageError: it has no pixels, or they are of floating point, for which nobody knows what is white, or L*a*b*.
        Exception: Pillow cannot decode it; see ``damage_refused``.
    """
    check_pixels(image)
    image.load()  # a TIFF is turned by that, and may be of another size after it
    levels = np.empty((image.height, image.width), np.uint8)
    rows = max(1, _PIXELS_AT_ONCE // max(1, image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        levels[top:bottom] = _grey(image.crop((0, top, image.width, bottom)))
    turn = _turn(image)
    return levels if turn is None else np.asarray(Image.fromarray(levels).transpose(turn))


def check_pixels(image: Image.Image) -> None:
    """Raise unless the image's pixels can be read as ink.

    Raises:
        ImageError: it has none, or they are of floating point, for which nobody knows what is white, or L*a*b*.
    """
    if 0 in image.size:
        raise ImageError(f"expected an image with pixels, found one of {image.width} x {image.height}")
    if image.mode == "F":
        raise ImageError("expected an image of whole numbers, found floating point (mode F); convert it to 8 bits")
    if image.mode == "LAB":  # of which Pillow makes neither grey nor RGB
        raise ImageError("expected an image in grey or RGB, found L*a*b*; convert it")


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow's own conversion clips 16 bits instead of scaling
        levels: NDArray[np.uint8] = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return levels
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def find_images(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield ``paths`` with each folder's place taken by the image files anywhere below it, sorted; none is opened.

    Folders are read when their turn comes: at no time more is held than the names in one folder and those above it.

    Raises:
        ImageError: a folder holds no image.
        OSError: a folder below cannot be read.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = _below(path)
        first = next(inside, None)
        if first is None:
            raise ImageError(
                f"expected images in the folder {path}, but it holds none; image files end in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        yield first
        yield from inside


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link that leads to none: reading it will say so."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry).exists())
    except OSError:  # a link to itself
        return True


def _below(folder: Path) -> Iterator[Path]:
    """Yield the image files anywhere below ``folder`` in the order in which ``sorted`` has their paths."""
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.name, is_folder)
            for entry in entries
            # A link to a folder is not followed: it may lead back.
            if (is_folder := entry.is_dir(follow_symlinks=False))
            or (os.path.splitext(entry.name)[1].lower() in SUFFIXES and _may_be_file(entry))  # noqa: PTH122 - of a million
        )
    for name, is_folder in found:
        if is_folder:
            yield from _below(folder / name)
        else:
            yield folder / name
