"""Zips from anywhere, read whole with nothing in them trusted: plain files side by side, stored as they are."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 2**31  # of a whole zip; an ONNX graph, a protobuf message, cannot be larger either
_MOST_DIRECTORY_BYTES = 2**20  # of the list of files, of which zipfile keeps ten times as much in memory
_LOCAL_HEADER_BYTES = 30  # APPNOTE.TXT 4.3.7, without the name
_END = struct.Struct("<4s4H2LH")  # APPNOTE.TXT 4.3.16, the end of the central directory
_END_SIGNATURE, _ZIP64_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4, bit 0


def read_stored(path: Path) -> dict[str, bytes]:
    """Return every file of a zip by its name.

    Raises:
        OSError: there is no such file.
        zipfile.BadZipFile, EOFError, NotImplementedError: it is no zip, or damaged; in words.
        ValueError: it holds what no bundle holds; in words.
    """
    if not (stat.S_ISREG(path.stat().st_mode) or path.is_dir()):  # of a folder the system's own words will do
        raise ValueError("expected a file, found a device or a pipe")
    with path.open("rb") as file:
        _check_end(file)
        with zipfile.ZipFile(file) as archive:
            check_stored(archive)
            infos = archive.infolist()
            for info in infos:
                _check_plain(info)
            if len({info.orig_filename for info in infos}) != len(infos):
                raise ValueError("a file name stands twice")
            if min((info.header_offset for info in infos), default=0):
                raise ValueError("expected a zip from its first byte on, found something before it")
            return {info.filename: archive.read(info) for info in infos}  # each held to its CRC


def check_stored(archive: zipfile.ZipFile) -> None:
    """Raise unless the files lie uncompressed beside one another: then all together are no larger than the zip.

    Raises:
        ValueError: one is compressed, or two overlap.
        zipfile.BadZipFile: a file has no header.
    """
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if any(info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in infos):
        raise ValueError("expected files stored uncompressed, found compressed ones")
    starts = [info.header_offset for info in infos[1:]] + [archive.start_dir]
    for info, following in zip(infos, starts, strict=True):
        if info.header_offset + _local_header_bytes(archive, info) + info.file_size > following:
            raise ValueError("expected files side by side, found more than it can hold")


def _local_header_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Return the bytes before a file's content: its local header may be longer than the list of files says.

    Raises:
        zipfile.BadZipFile: there is none.
    """
    assert archive.fp is not None  # noqa: S101 - of an open one
    archive.fp.seek(info.header_offset)
    header = archive.fp.read(_LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES:
        raise zipfile.BadZipFile("a file of it begins behind its end")
    name_bytes, extra_bytes = struct.unpack("<2H", header[-4:])  # APPNOTE.TXT 4.3.7
    return _LOCAL_HEADER_BYTES + int(name_bytes) + int(extra_bytes)


def _check_end(file: BinaryIO) -> None:
    """Raise unless the zip, and the list of its files, is of a size to be read into memory.

    Raises:
        zipfile.BadZipFile: it does not end as one, or in a comment.
        ValueError: it is larger, or has 64-bit sizes.
    """
    size = file.seek(0, 2)
    if size > MOST_BYTES:
        raise ValueError(f"expected {MOST_BYTES:,} bytes at most, found {size:,}")
    file.seek(max(0, size - _END.size - _ZIP64_LOCATOR_BYTES))
    tail = file.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != _END_SIGNATURE:
        raise zipfile.BadZipFile("its last bytes are not the end of one")
    directory_bytes = _END.unpack(tail[-_END.size :])[5]
    if directory_bytes > _MOST_DIRECTORY_BYTES or tail[: -_END.size][:4] == _ZIP64_SIGNATURE:
        raise ValueError(f"expected a list of files of {_MOST_DIRECTORY_BYTES:,} bytes at most, found a larger one")
    file.seek(0)


def _check_plain(info: zipfile.ZipInfo) -> None:
    """Raise unless it is a file that any program may unpack below any folder.

    Raises:
        ValueError: it is a folder or a link, encrypted, or its name leads elsewhere or cannot be printed.
    """
    name, mode = info.orig_filename, info.external_attr >> 16
    if {"", ".", ".."} & set(name.split("/")) or set('\\:*?"<>|') & set(name) or not name.isprintable():
        raise ValueError(f"expected names such as model.onnx, found {name!r}")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ValueError(f"expected plain files, found another kind: {name!r}")
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"expected plain files, found an encrypted one: {name!r}")
