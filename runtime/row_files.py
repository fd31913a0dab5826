"""A file of rows that grows batch by batch, and goes on after a kill where it stopped: none lost, none twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .arrow import load, read_parquet, write_parquet
from .errors import ConfigError
from .files import write_bytes, written_whole
from .row_text import Csv, JsonLines, RowText
from .rows import Row, printable

SUFFIXES = (".jsonl", ".csv", ".parquet")


class RowFile:
    """An output under way, ``open_rows`` makes it.

    Parquet has its index at its end and cannot grow: its rows are kept as JSON lines beside it until all are there.

    Attributes:
        path: the output.
        count: rows in it.
        failed: those among them of unreadable images.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.failed = path, 0, 0
        self._is_parquet = path.suffix == ".parquet"
        self._format: RowText = Csv() if path.suffix == ".csv" else JsonLines()
        self._lines = _growing(path)
        if self._is_parquet and path.exists() and not self._lines.exists():
            self._unpack()
        self._file = self._lines.open("r+b" if self._lines.exists() else "w+b", buffering=0)

    def skip_done(self, files: Iterator[str]) -> Iterator[str]:
        """Return what is left of ``files`` when each row there is has found its own; comes before ``append``.

        A torn row at the end is cut off.

        Raises:
            ConfigError: the rows are of other files.
        """
        end = 0
        for record, row in self._done():
            self.count += 1
            file = next(files, None)
            if row["image"] != (file and printable(file)):
                raise ConfigError(
                    f"expected {self.path} begun on the same images, but its row {self.count:,} is of {row['image']}, "
                    f"where they have {file or 'no more'}; give the same images, or --overwrite to make it anew"
                )
            self.failed += row["error"] is not None
            end += len(record)
        header = self._format.header
        self._file.truncate(len(header) + end if end else 0)
        self._file.seek(0, os.SEEK_END)
        if not end:
            self._append(header)
        return files

    def append(self, rows: Sequence[Row]) -> None:
        """Write ``rows``, all or none of them."""
        self._append(self._format.encode(rows))
        self.count += len(rows)
        self.failed += sum(row["error"] is not None for row in rows)

    def finish(self) -> None:
        """Make the output of the rows."""
        os.fsync(self._file.fileno())
        if self._is_parquet:
            self._file.seek(0)
            write_parquet(self.path, map(self._format.decode, self._format.records(self._file)))
            self._lines.unlink()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _unpack(self) -> None:
        """Lay the rows of a finished Parquet file out as they were before."""
        with written_whole(self._lines) as beside, beside.open("wb") as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in read_parquet(self.path))

    def _done(self) -> Iterator[tuple[bytes, Row]]:
        """Yield each row there is, with its text.

        Raises:
            ConfigError: one, or the header, cannot be read.
        """
        header = self._format.header
        found = self._file.read(len(header))
        if found != header:
            if header.startswith(found):
                return  # torn before the first row
            raise ConfigError(f"expected rows in {self._lines}, but its header is another; mend it or give --overwrite")
        with open(self._file.fileno(), "rb", closefd=False) as file:
            for record in self._format.records(file):
                try:
                    yield record, self._format.decode(record)
                except (ValueError, KeyError) as error:
                    raise ConfigError(
                        f"expected rows in {self._lines}, but after {self.count:,} of them {error}; "
                        "mend it, or give --overwrite to make it anew"
                    ) from error

    def _append(self, data: bytes) -> None:
        end, left = self._file.tell(), memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:  # a full disk takes a part
            self._file.truncate(end)
            error.filename = str(self._lines)
            raise


@contextmanager
def open_rows(
    path: Path, identity: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
) -> Iterator[RowFile]:
    """Give the file of rows at ``path`` to whoever comes first; it ends up whole, or as far as it got.

    What the rows are made with, ``identity``, is kept beside it in ``NAME.state``, written once, before the first row.
    ``NAME.lock`` keeps other processes away.

    Args:
        path: ends in one of ``SUFFIXES``; missing parent folders are made.
        identity: plain JSON values; where they differ, rows differ.
        resume: go on with the rows that are there.
        overwrite: remove them; with neither they must not be there.

    Raises:
        ConfigError: another suffix; another process writes this file; rows are there, or were begun with another
            ``identity``; pyarrow is missing.
    """
    check_rows(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if overwrite:
            path.unlink(missing_ok=True)
            _growing(path).unlink(missing_ok=True)
        elif not resume:
            check_new(path)
        if has_rows(path):
            _check_same(path, identity)
        else:
            write_bytes(state_of(path), json.dumps(identity).encode())
        rows = RowFile(path)
        try:
            yield rows
        finally:
            rows.close()


def has_rows(path: Path) -> bool:
    """Tell whether an output is there, or a part of it."""
    return path.exists() or _growing(path).exists()


def check_new(path: Path) -> None:
    """Raise if an output is there, or a part of it.

    Raises:
        ConfigError: it is.
    """
    if has_rows(path):
        raise ConfigError(
            f"expected no rows at {path} yet, but there are some; give --resume, --overwrite or another --output"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing ``path``; the file that is locked stays, for others may wait to open it.

    Raises:
        ConfigError: another process does.
    """
    with path.with_name(path.name + ".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"expected no other run that writes {path}, but there is one; wait for its end or give another --output"
            ) from error
        yield


def check_rows(path: Path) -> None:
    """Raise unless rows can become a file of that name.

    Raises:
        ConfigError: another suffix than ``SUFFIXES``, or pyarrow is missing for Parquet.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"expected an output that ends in {', '.join(SUFFIXES)}, found {path}; rename it")
    if path.suffix == ".parquet":
        load()


def state_of(path: Path) -> Path:
    """Return where it is kept what the rows at ``path`` are made with."""
    return path.with_name(path.name + ".state")


def _growing(path: Path) -> Path:
    """Return the file that rows are added to until all are there."""
    return path.with_name(path.name + ".rows") if path.suffix == ".parquet" else path


def _check_same(path: Path, identity: Mapping[str, Any]) -> None:
    state = state_of(path)
    try:
        theirs = dict(json.loads(state.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        what = "there is none" if isinstance(error, FileNotFoundError) else f"it is no JSON ({error})"
        raise ConfigError(
            f"expected {state.name} beside {path}, which says what its rows were made with, but {what}; "
            "give --overwrite to make them anew"
        ) from error
    differing = [
        f"{name} {theirs.get(name)} there and {identity.get(name)} here"
        for name in sorted({*theirs, *identity})
        if theirs.get(name) != identity.get(name)
    ]
    if differing:
        raise ConfigError(
            f"expected {path} begun with the same model, options and images, found {'; '.join(differing)}; "
            "give the same, or --overwrite to make it anew"
        )
