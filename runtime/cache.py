"""What took long to make, kept by the fingerprint of all it was made from: a step that is done is not done again."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .files import write_bytes

_MOST_BYTES = 2**30  # of all that is kept; what was not used for longest goes first
_DIGEST_BYTES = hashlib.sha256().digest_size
_FINGERPRINT = re.compile("[0-9a-f]{64}")  # what our files are called; the folder may hold a user's own


class Cache:
    """A folder of files, each named by a fingerprint and beginning with the sha256 of the rest.

    It only ever saves time: what is damaged counts as missing, and what cannot be written is not kept.

    Args:
        folder: where it lies; ``None`` keeps nothing, as ``NO_CACHE`` does.

    Attributes:
        folder: as given; libraries that keep files in their own way get folders in it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def made(self, make: Callable[[], bytes], *ingredients: str) -> bytes:
        """Return what ``make`` gives, or gave when it was called with the same ingredients.

        Args:
            make: is called where nothing is kept.
            ingredients: all that the result depends on, versions of the software included.
        """
        kept = self.read(*ingredients)
        if kept is not None:
            return kept
        data = make()
        self.keep(data, *ingredients)
        return data

    def read(self, *ingredients: str) -> bytes | None:
        """Return what was kept under ``ingredients``; ``None`` if nothing was, or it is damaged."""
        return None if self.folder is None else self._read(self._path(self.folder, ingredients))

    def keep(self, data: bytes, *ingredients: str) -> None:
        """Keep ``data`` under ``ingredients`` in place of what was there."""
        if self.folder is not None:
            self._keep(self._path(self.folder, ingredients), data)

    @staticmethod
    def _path(folder: Path, ingredients: tuple[str, ...]) -> Path:
        return folder / hashlib.sha256("\0".join(ingredients).encode()).hexdigest()

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):  # what another user put there can be read, not touched
            path.touch()
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else None

    @staticmethod
    def _keep(path: Path, data: bytes) -> None:
        try:
            write_bytes(path, hashlib.sha256(data).digest() + data)
            _make_room(path.parent)
        except OSError:  # a full disk, or a folder that cannot be written: the work is done all the same
            return


NO_CACHE = Cache()


def _make_room(folder: Path) -> None:
    ours = [file for file in folder.iterdir() if _FINGERPRINT.fullmatch(file.name) and file.is_file()]
    newest_first = sorted(((file.stat(), file) for file in ours), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for found, file in newest_first:
        total += found.st_size
        if total > _MOST_BYTES:
            file.unlink(missing_ok=True)


def default_folder() -> Path:
    """Return ``QUILLRT_CACHE``, or ``quillrt`` in the user's cache folder (XDG Base Directory Specification)."""
    if chosen := os.environ.get("QUILLRT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quillrt"
