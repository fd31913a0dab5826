"""Hostile zips, made by zipfile and a few changed bytes."""

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from quillrt.runtime import zips
from quillrt.runtime.zips import check_stored, read_stored


def zip_of(path, files, change=lambda info: None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo("0" * len(name))
            archive.writestr(info, data)
            info.filename = name  # as it stands in the list at the end; the local header is patched below
            change(info)
    content = path.read_bytes()
    for name in files:
        content = content.replace(b"0" * len(name.encode()), name.encode(), 1)
    path.write_bytes(content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.quill"


def test_files_are_read_as_they_are(path):
    files = {"manifest.json": b"{}", "a/b c.onnx": bytes(range(256)), "ф.bin": b"", ".hidden": b"x", "a..b": b"y"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)

    assert read_stored(path) == files


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../x", "a/../../x", "..", ".", "./x", "a//b", "a/", "/"),
        *("..\\x", "a\\b", "\\\\server\\share", "C:x", "C:/x", "a:stream", "a*", "a?", 'a"', "a<", "a>", "a|"),
        *("a\nb", "a\x1b[2Jb", "a\tb", "a\x7f", "a\u202eb", "a\u200bb", "a\u2028b"),
    ],
)
def test_a_name_that_leads_elsewhere_or_cannot_be_printed_is_refused(path, name):
    zip_of(path, {name: b"x"})

    with pytest.raises(ValueError, match=r"expected names such as model\.onnx, found") as error:
        read_stored(path)
    assert str(error.value).isprintable()


def test_a_name_with_a_nul_is_not_taken_for_its_beginning(path):
    zip_of(path, {"model.onnxZ.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"onnxZ", b"onnx\0"))

    with pytest.raises(ValueError, match=r"expected names such as model\.onnx, found 'model\.onnx\\x00\.png'"):
        read_stored(path)


def test_a_file_without_a_name_is_refused(path):
    zip_of(path, {"": b"x"})

    with pytest.raises(ValueError, match="found ''"):
        read_stored(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_link_and_other_kinds_of_file_are_refused(path, kind):
    zip_of(path, {"a": b"/etc/passwd"}, lambda info: setattr(info, "external_attr", (kind | 0o777) << 16))

    with pytest.raises(ValueError, match="expected plain files, found another kind: 'a'"):
        read_stored(path)


def test_a_plain_file_may_say_that_it_is_one(path):
    zip_of(path, {"a": b"x"}, lambda info: setattr(info, "external_attr", (stat.S_IFREG | 0o644) << 16))

    assert read_stored(path) == {"a": b"x"}


def test_an_encrypted_file_is_refused(path):
    zip_of(path, {"a": b"x"}, lambda info: setattr(info, "flag_bits", 1))

    with pytest.raises(ValueError, match="found an encrypted one: 'a'"):
        read_stored(path)


def test_a_name_twice_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"x")

    with pytest.raises(ValueError, match="a file name stands twice"):
        read_stored(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(path, method):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", bytes(10**7))

    with pytest.raises(ValueError, match="expected files stored uncompressed"):
        read_stored(path)


@pytest.mark.parametrize("size_too", [False, True])
def test_a_bomb_that_calls_itself_stored_is_refused(path, size_too):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10**6))
        (info,) = archive.infolist()
        info.compress_type = zipfile.ZIP_STORED
        info.file_size = info.compress_size if size_too else info.file_size

    with pytest.raises((ValueError, zipfile.BadZipFile)):
        read_stored(path)


@pytest.mark.parametrize("size", [0, 1, 99, 101, 2**31, 2**32 - 2])
def test_a_wrong_size_is_refused(path, size):
    def lie(info):
        info.file_size = info.compress_size = size

    zip_of(path, {"a": bytes(100)}, lie)

    with pytest.raises((ValueError, zipfile.BadZipFile)):
        read_stored(path)


def test_files_that_share_their_bytes_are_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(1000))
        for name in ("b", "c"):
            archive.filelist.append(zipfile.ZipInfo(name))
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(archive.filelist[-1], field, getattr(archive.getinfo("a"), field))

    with pytest.raises(ValueError, match="expected files side by side"):
        read_stored(path)


def test_files_that_overlap_by_what_their_own_headers_say_are_refused(path):
    """The list of files does not hold the length of the extra field in the header before each."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(100))
        archive.writestr("b", bytes(100))
    data = bytearray(path.read_bytes())
    data[28:30] = (50).to_bytes(2, "little")
    path.write_bytes(data)

    with pytest.raises(ValueError, match="expected files side by side"):
        read_stored(path)


def test_a_list_of_files_without_end_is_refused_before_it_is_read(path, monkeypatch):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(25_000):
            archive.writestr(zipfile.ZipInfo(f"{number:05}"), b"")
    monkeypatch.setattr(zipfile, "ZipFile", None)

    with pytest.raises(ValueError, match="expected a list of files of 1,048,576 bytes at most"):
        read_stored(path)


def test_a_list_whose_size_is_said_elsewhere_is_refused(path):
    """The 64-bit end that zipfile prefers says more than the end we look at."""
    zip_of(path, {"a": b"x"})
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    path.write_bytes(content[:end] + locator + content[end:])

    with pytest.raises(ValueError, match="found a larger one"):
        read_stored(path)


def test_what_stands_before_a_zip_is_refused(path):
    zip_of(path, {"a": bytes(100)})
    path.write_bytes(b"x" + path.read_bytes())

    with pytest.raises(ValueError, match="from its first byte on"):
        read_stored(path)


def test_a_device_is_no_bundle():
    with pytest.raises(ValueError, match="found a device"):
        read_stored(Path("/dev/zero"))


def test_a_zip_larger_than_any_bundle_is_refused_unread(path, monkeypatch):
    zip_of(path, {"a": b"x"})
    monkeypatch.setattr(zips, "MOST_BYTES", path.stat().st_size - 1)

    with pytest.raises(ValueError, match="bytes at most, found"):
        read_stored(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6", b"#!/bin/sh\n", bytes(1000)])
def test_what_is_no_zip_is_refused(path, content):
    path.write_bytes(content)

    with pytest.raises(zipfile.BadZipFile):
        read_stored(path)


def test_a_stored_zip_of_another_program_passes(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../archive/data/0", bytes(100))
    with zipfile.ZipFile(path) as archive:
        check_stored(archive)
