import os
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from quillrt.runtime import images
from quillrt.runtime.errors import ImageError
from quillrt.runtime.images import find_images, grey, read_image
from quillrt.runtime.preprocessing import Preprocessing, fit_image

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def encoded(image, kind="PNG", **settings):
    content = BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


def png_without_pixels(width, height):
    """A PNG of 8-bit grey whose header promises pixels that its data (ISO/IEC 15948, 5.2 and 11.2) does not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def pixels(rows, mode):
    image = Image.new(mode, (len(rows[0]), len(rows)))
    image.putdata([pixel for row in rows for pixel in row])
    return image


def with_transparent_colour():
    image = pixels([[0, 1, 2]], "P")
    image.putpalette([255, 0, 0, 0, 0, 0, 255, 255, 255])
    return encoded(image, transparency=1)


# Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601): pure red 76, green 150, blue 29.
MODES = {
    "L": (encoded(Image.fromarray(GREY)), GREY),
    "RGB": (encoded(pixels([[(255, 0, 0), (0, 255, 0), (0, 0, 255)]], "RGB")), [[76, 150, 29]]),
    "RGBA": (encoded(pixels([[(0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 51)]], "RGBA")), [[0, 255, 204]]),
    "LA": (encoded(pixels([[(100, 255), (100, 0), (0, 51)]], "LA")), [[100, 255, 204]]),
    "P with a transparent colour": (with_transparent_colour(), [[76, 255, 255]]),
    "RGB with a transparent colour": (
        encoded(pixels([[(0, 255, 0), (0, 0, 0)]], "RGB"), transparency=(0, 0, 0)),
        [[150, 255]],
    ),
    "1": (encoded(pixels([[0, 255, 0]], "1")), [[0, 255, 0]]),
    "I;16": (encoded(Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))), [[0, 0, 1, 255]]),
    "I": (encoded(Image.fromarray(np.array([[-1, 25600, 1 << 20]], np.int32)), "TIFF"), [[0, 100, 255]]),
    "BMP": (encoded(Image.fromarray(GREY), "BMP"), GREY),
    "GIF": (encoded(Image.fromarray(GREY), "GIF"), GREY),
}


@pytest.mark.parametrize(("content", "expected"), MODES.values(), ids=MODES.keys())
def test_every_kind_of_pixel_becomes_grey(content, expected):
    grey = read_image(content)

    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey, expected)


def test_a_print_shops_jpeg_is_read():
    ink = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (0, 0, 8, 16))

    grey = read_image(encoded(ink, "JPEG", quality=95))

    assert grey[:, :8].max() < 10
    assert grey[:, 8:].min() > 245


# Exif 2.3, tag 274: where row 0 and column 0 of the stored picture belong.
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, GREY),
        (2, GREY[:, ::-1]),
        (3, GREY[::-1, ::-1]),
        (4, GREY[::-1]),
        (5, GREY.T),
        (6, GREY[::-1].T),
        (7, GREY[::-1, ::-1].T),
        (8, GREY[:, ::-1].T),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_is_turned_as_its_camera_was(orientation, turned, kind):
    exif = Image.Exif()
    exif[274] = orientation

    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(GREY), kind, exif=exif)), turned)


def test_an_image_in_colour_is_turned_too_and_in_pieces(monkeypatch):
    monkeypatch.setattr(images, "_PIXELS_AT_ONCE", 12)  # two rows, then two
    exif = Image.Exif()
    exif[274] = 6
    colour = Image.merge("RGBA", [Image.fromarray(GREY)] * 3 + [Image.new("L", (6, 4), 255)])

    np.testing.assert_array_equal(read_image(encoded(colour, exif=exif)), GREY[::-1].T)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_frame_of_an_animation_counts(kind):
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]

    content = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )

    np.testing.assert_array_equal(read_image(content), GREY)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_of_many_pages_one_is_decoded(kind, monkeypatch):
    loads = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: (loads.append(self.tell()), load(self))[1])
    pages = [Image.fromarray(GREY + number) for number in range(15)]

    np.testing.assert_array_equal(read_image(encoded(pages[0], kind, save_all=True, append_images=pages[1:])), GREY)
    assert set(loads) == {0}


def test_a_file_that_does_not_end_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", 10**6)

    with pytest.raises(ImageError, match=r"expected an image file at /dev/zero, but it is larger than 1,000,000 bytes"):
        read_image(Path("/dev/zero"))


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    (tmp_path / "empty.png").touch()

    with pytest.raises(ImageError, match=r"expected an image file at .*absent\.png, but No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="but Is a directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"empty\.png is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.png")


@pytest.mark.parametrize(
    "content",
    [
        b"dear reader, this is no image",
        b"\0" * 1000,
        png_without_pixels(9, 9),
        png_without_pixels(0, 9),
        png_without_pixels(20_000, 20_000)[:33],  # cut after the header
    ],
)
def test_what_is_no_image_is_refused(content):
    with pytest.raises(ImageError, match="but stdin is "):
        read_image(content, "stdin")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM"])
def test_half_an_image_is_refused(kind):
    content = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)), kind)

    with pytest.raises(ImageError):
        read_image(content[: len(content) // 2])


def test_postscript_is_refused_before_ghostscript_is_started(monkeypatch):
    def started(*arguments, **options):
        raise AssertionError("started a program")

    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("subprocess.Popen", started)

    with pytest.raises(ImageError, match=r"expected an image \(PNG, JPEG, .*, but stdin is none"):
        read_image(encoded(Image.fromarray(GREY), "EPS"), "stdin")


@pytest.mark.parametrize("kind", ["AVIF", "DDS"])
def test_a_damaged_file_of_a_rare_kind_is_refused(kind):
    content = bytearray(encoded(Image.new("RGB", (16, 16)), kind))
    content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)

    with pytest.raises(ImageError):
        read_image(bytes(content))


def test_what_a_decoder_raises_is_told_as_damage(monkeypatch):
    def broken(self):
        raise RuntimeError("decoder failed")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)

    with pytest.raises(ImageError, match=r"expected a whole image, but image is damaged: decoder failed; copy it"):
        read_image(encoded(Image.fromarray(GREY)))


def with_exif(kind, exif):
    """A PNG or a WEBP whose EXIF is ``exif``, as it stands."""
    image = Image.fromarray(GREY).convert("RGB")
    if kind == "WEBP":
        return encoded(image, kind, exif=exif)
    content = encoded(image)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return content[:33] + chunk + content[33:]  # after the signature and IHDR


def with_tag_type(tag, kind):
    """A TIFF one tag of which has another type."""
    content = bytearray(encoded(Image.fromarray(GREY), "TIFF"))
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    places = [first + 2 + 12 * n for n in range(tags)]
    (place,) = [place for place in places if struct.unpack_from("<H", content, place)[0] == tag]
    struct.pack_into("<H", content, place + 2, kind)
    return bytes(content)


# What Pillow 13 raises struct.error and TypeError on: EXIF that ends early; StripOffsets that are no whole numbers.
ODD = {
    "PNG": with_exif("PNG", b"II*\0"),
    "WEBP": with_exif("WEBP", b"II*\0"),
    **{f"TIFF {kind}": with_tag_type(273, kind) for kind in (2, 5, 11, 12)},
}


@pytest.mark.parametrize("read", [read_image, images.open_image])
@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_damage_that_pillow_does_not_foresee_is_told_in_one_line(content, read):
    with pytest.raises(ImageError, match=r"^expected a whole image, but image is damaged: [^\n]+; copy it again$"):
        read(content)


def test_too_little_memory_is_no_damage(monkeypatch):
    def exhausted(self):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", exhausted)

    with pytest.raises(MemoryError):
        read_image(encoded(Image.fromarray(GREY)))


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 20_000), (9_000, 9_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    with pytest.raises(ImageError, match="expected at most 64,000,000 pixels"):
        read_image(png_without_pixels(*size))


def test_the_limit_is_what_the_message_says(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 24)

    assert read_image(encoded(Image.fromarray(GREY))).size == 24
    with pytest.raises(ImageError, match="at most 24 pixels"):
        read_image(encoded(Image.new("L", (25, 1))))
    assert read_image(encoded(Image.fromarray(GREY)), max_pixels=24).size == 24
    with pytest.raises(ImageError, match="at most 23 pixels"):
        read_image(encoded(Image.fromarray(GREY)), max_pixels=23)


@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_file_is_read_or_refused_without_a_warning(kind, damage):
    exif = Image.Exif()
    exif[274] = 6
    content = bytearray(encoded(Image.fromarray(GREY), kind, **({"exif": exif} if kind in ("PNG", "JPEG") else {})))
    for place, value in damage:
        content[int(place * len(content))] = value

    with suppress(ImageError):
        grey = read_image(bytes(content))
        assert grey.dtype == np.uint8
        assert grey.ndim == 2


def test_folders_are_searched_and_sorted_and_files_keep_their_place(tmp_path):
    for name in ("b/2.PNG", "b/1.jpeg", "b/deep/er/3.tif", "b/notes.txt", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = find_images([tmp_path / "z.png", tmp_path / "b", tmp_path / "a.txt"])

    assert [p.relative_to(tmp_path).as_posix() for p in found] == [
        "z.png",
        "b/1.jpeg",
        "b/2.PNG",
        "b/deep/er/3.tif",
        "a.txt",
    ]


NAMES = st.sampled_from(["a", "a-b", "a.b", "A", "b", "é", "z z"])


@given(st.sets(st.tuples(st.lists(NAMES, max_size=2), NAMES).map(lambda pair: "/".join([*pair[0], pair[1] + ".png"]))))
def test_the_order_is_that_of_sorted_paths(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("images")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    expected = sorted(path for path in folder.rglob("*.png") if path.is_file())

    assert expected == [] or list(find_images([folder])) == expected


def test_links_to_images_count_and_links_to_folders_do_not(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(".")

    assert [path.name for path in find_images([tmp_path])] == ["a.png", "b.png", "c.png"]


def test_links_that_lead_nowhere_are_told_of_when_they_are_read(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "absent.png")
    (tmp_path / "self.png").symlink_to("self.png")
    found = list(find_images([tmp_path]))
    assert [path.name for path in found] == ["gone.png", "self.png"]
    for path in found:
        with pytest.raises(ImageError, match="expected an image file"):
            read_image(path)


def test_a_name_with_a_null_is_no_file():
    with pytest.raises(ImageError, match="embedded null"):
        read_image(Path("a\0b.png"))


@pytest.mark.parametrize(
    ("image", "said"),
    [(Image.new("L", (0, 5)), "one of 0 x 5"), (Image.new("F", (4, 4), 0.5), "found floating point")],
)
def test_images_that_nobody_can_read_ink_in(image, said):
    with pytest.raises(ImageError, match=said):
        grey(image)


def test_a_folder_is_read_when_its_turn_comes(tmp_path):
    (tmp_path / "a.png").touch()

    found = find_images([tmp_path, tmp_path / "later"])

    assert next(found).name == "a.png"
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "z.png").touch()
    assert next(found).name == "z.png"


def test_a_folder_without_images_is_refused_with_the_endings_sought(tmp_path):
    (tmp_path / "notes.txt").touch()

    with pytest.raises(ImageError, match=r"it holds none; image files end in .*\.png"):
        list(find_images([tmp_path]))


@pytest.mark.data
def test_real_photographs_with_alpha_are_light_paper_that_is_turned():
    folder = Path(os.environ.get("QUILLRT_DATA", "")) / "photos"
    if not folder.is_dir():
        pytest.skip("photos is not in QUILLRT_DATA")
    files = list(find_images([folder]))

    assert len(files) > 100
    for file in files:
        photo = read_image(file)
        fitted = fit_image(photo, Preprocessing())
        assert np.median(photo) > 127  # paper
        assert fitted.shape == (28, 28)
        assert fitted.any()
        assert np.median(fitted) < 127
