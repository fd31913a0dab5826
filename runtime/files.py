"""Writing files whole or not at all, and reading them up to a size."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` to write; on success it takes the name ``path``, else it is removed.

    Missing parent folders are made. A reader never sees half a file, also after Ctrl-C or a full disk.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; it names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        beside.touch(exist_ok=False)
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(beside)):  # a full disk's error names no file
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_bytes(data)
