"""Writing files and folders whole or not at all, and reading files up to a size."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import ConfigError


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file; a device or a pipe that never ends does not fill the memory.

    Raises:
        OSError: it cannot be read, or is larger; ``strerror`` says so in words.
    """
    with path.open("rb") as file:
        return bounded(file, most_bytes, str(path))


def bounded(file: BinaryIO, most_bytes: int, name: str) -> bytes:
    """Return what is left to read in ``file``, called ``name``.

    Raises:
        OSError: it is more.
    """
    data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", name)
    return data


def _nonce() -> str:
    return os.urandom(4).hex()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` to write; on success it takes the name ``path``, else it is removed.

    Missing parent folders are made, and a file that was there leaves its mode. A reader never sees half a file, also
    after Ctrl-C or a full disk.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; it names ``path``.
    """
    if path.is_symlink():
        path = path.resolve()  # the link stays one, and what it leads to is written
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{_nonce()}{path.suffix}")
    try:
        beside.touch(exist_ok=False)
        if path.exists():
            shutil.copymode(path, beside)
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(beside)):  # a full disk's error names no file
            error.filename = str(path)
        raise


def check_free(folder: Path) -> None:
    """Raise now, rather than after long work, unless ``folder`` can become a new one: it is not there, or empty.

    Raises:
        ConfigError: there is a file, a folder that holds something, or no folder above it that can be written.
    """
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        what = "is a link" if folder.is_symlink() else "is not empty" if folder.is_dir() else "is a file"
        raise ConfigError(f"expected a new or an empty folder, but {folder} {what}; give another --output")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ConfigError(f"expected to make the folder {folder}, but {above} can hold none; give another --output")


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder`` to fill; on success it takes its name, else it is removed.

    Raises:
        OSError: it cannot be made, or ``folder`` is there and not empty.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{_nonce()}")
    beside.mkdir()
    try:
        yield beside
        beside.replace(folder)  # an empty folder gives way
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_bytes(data)
