"""Image files by name, wherever they are: local paths, and addresses such as s3://bucket/folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from .arrow import load
from .errors import ImageError
from .files import bounded, read_bounded
from .images import MOST_BYTES, SUFFIXES, find_images


def is_remote(name: str) -> bool:
    """Tell an address from a path."""
    return "://" in name


def find(names: Iterable[str]) -> Iterator[str]:
    """Yield ``names`` with the place of each folder taken by the images below it, in the order of ``find_images``.

    Raises:
        ImageError: a folder holds no image, or an address cannot be reached.
    """
    for name in names:
        yield from _below(name) if is_remote(name) else map(str, find_images([Path(name)]))


def content(name: str) -> bytes:
    """Return what is in the file.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        if not is_remote(name):
            return read_bounded(Path(name), MOST_BYTES)
        filesystem, path = located(name)
        with filesystem.open_input_stream(path) as stream:
            return bounded(stream, MOST_BYTES, name)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ImageError(f"expected an image file at {name}, but {why}; check the path") from error


def located(name: str) -> tuple[Any, str]:
    """Return pyarrow's file system of an address or a path, and the path in it.

    Raises:
        OSError, ValueError: there is none.
    """
    if not is_remote(name):
        return load("fs").LocalFileSystem(), str(Path(name).absolute())
    scheme, _, rest = name.partition("://")
    if scheme == "file":
        return load("fs").LocalFileSystem(), rest
    return _filesystem(f"{scheme}://{rest.partition('/')[0]}"), rest.rstrip("/")


def _below(name: str) -> Iterator[str]:
    fs, scheme = load("fs"), name.partition("://")[0]
    try:
        filesystem, path = located(name)
        if filesystem.get_file_info(path).type == fs.FileType.File:
            yield name
            return
        infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, ValueError) as error:
        raise ImageError(f"expected images at {name}, but {' '.join(str(error).split())}; check the address") from error
    found = [info.path for info in infos if info.is_file and Path(info.path).suffix.lower() in SUFFIXES]
    if not found:
        raise ImageError(
            f"expected images at {name}, but there are none; image files end in {', '.join(sorted(SUFFIXES))}"
        )
    for path in sorted(found, key=lambda path: path.split("/")):
        yield f"{scheme}://{path}"


@lru_cache
def _filesystem(root: str) -> Any:
    """Return the file system at ``root``, such as s3://bucket; its region is found once."""
    return load("fs").FileSystem.from_uri(root)[0]
