"""Rows as text that only ever grows: JSON lines, or CSV; and what of it was written whole."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import IO

from .rows import COLUMNS, Row

_AS_JSON = ("is_character", "unsure", "top")  # in CSV


class RowText(ABC):
    """A format whose rows can be told apart, so that one that was torn is seen."""

    header = b""

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> bytes:
        """Return the text of ``rows``."""

    @abstractmethod
    def decode(self, record: bytes) -> Row:
        """Return a row.

        Raises:
            ValueError, KeyError: ``record`` is none.
        """

    def is_whole(self, record: bytes) -> bool:
        """Tell whether lines, read so far, make a record."""
        return record.endswith(b"\n")

    def records(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield each whole record of ``file`` from where it stands."""
        record = b""
        for line in file:
            record += line
            if self.is_whole(record):
                yield record
                record = b""


class JsonLines(RowText):
    """A JSON object in each line."""

    def encode(self, rows: Sequence[Row]) -> bytes:
        return b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows)

    def decode(self, record: bytes) -> Row:
        row: Row = json.loads(record)
        if not isinstance(row, dict) or set(row) != set(COLUMNS):
            raise ValueError(f"expected {', '.join(COLUMNS)}")
        return row


class Csv(RowText):
    """RFC 4180; ``top``, true and false are as in JSON, and what there is none of is empty."""

    header = ",".join(COLUMNS).encode() + b"\r\n"

    def encode(self, rows: Sequence[Row]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        for row in rows:
            cells = {name: json.dumps(row[name]) for name in _AS_JSON if row[name] is not None}
            writer.writerow([cells.get(name, row[name]) for name in COLUMNS])
        return text.getvalue().encode()

    def decode(self, record: bytes) -> Row:
        usual = csv.field_size_limit(len(record))  # 131,072 characters, of the whole process
        try:
            (cells,) = csv.reader(io.StringIO(record.decode(), newline=""))
        except csv.Error as error:
            raise ValueError(str(error)) from error
        finally:
            csv.field_size_limit(usual)
        row: Row = {name: cell or None for name, cell in zip(COLUMNS, cells, strict=True)}
        for name in ("probability", *_AS_JSON):
            row[name] = row[name] and json.loads(row[name])
        return {**row, "doubt": row["doubt"] or ""}

    def is_whole(self, record: bytes) -> bool:
        return record.endswith(b"\n") and record.count(b'"') % 2 == 0
