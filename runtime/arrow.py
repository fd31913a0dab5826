"""Rows as Arrow tables and Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .files import written_whole
from .rows import Row

_ROWS_AT_ONCE = 16_384  # a row group, and all that is held of a file


def load(part: str = "") -> Any:
    """Return pyarrow's module, or a part of it such as ``parquet``.

    Raises:
        ConfigError: its package is missing.
    """
    try:
        return import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigError("this needs the package pyarrow: pip install 'quillrt[parquet]'") from error


def schema() -> Any:
    """Return the types of ``rows.COLUMNS``."""
    pa = load()
    label = pa.struct([("label", pa.string()), ("probability", pa.float64())])
    return pa.schema(
        [
            ("image", pa.string()),
            ("answer", pa.string()),
            ("doubt", pa.string()),
            ("label", pa.string()),
            ("probability", pa.float64()),
            ("is_character", pa.bool_()),
            ("unsure", pa.bool_()),
            ("preprocessing", pa.string()),
            ("because", pa.string()),
            ("top", pa.list_(label)),
            ("error", pa.string()),
        ]
    )


def table(rows: Sequence[Row]) -> Any:
    """Return an Arrow table of rows."""
    return load().Table.from_pylist(list(rows), schema=schema())


def write_parquet(path: Path, rows: Iterable[Row]) -> None:
    """Write rows to ``path``, whole or not at all, a part of them in memory at a time."""
    stream = iter(rows)
    with written_whole(path) as beside, load("parquet").ParquetWriter(beside, schema()) as writer:
        while some := list(islice(stream, _ROWS_AT_ONCE)):
            writer.write_table(table(some))


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a file that ``write_parquet`` wrote.

    Raises:
        ConfigError: it is no Parquet file.
    """
    try:
        with load("parquet").ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except load().ArrowException as error:
        raise ConfigError(f"expected a Parquet file at {path}, but {error}; give --overwrite") from error
