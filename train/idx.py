"""IDX, the file format of MNIST and its kin: a magic number, the dimensions, the bytes.

Source: LeCun, Cortes, Burges, "The MNIST database", section "File formats".
"""

from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import DataError

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_MOST_BYTES = 2**30  # twice EMNIST's largest part


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file, plain or gzipped, as an array of that many dimensions.

    Raises:
        DataError: the file cannot be read, is of another kind or dimension, is cut short or too long.
    """
    try:
        with path.open("rb") as file, _unpacked(file) as data:
            return _read(data, dimensions, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"expected a whole gzip file, but {path} is damaged: {error}; get it again") from error
    except OSError as error:
        raise DataError(f"expected an IDX file at {path}, but {error.strerror}; check the path") from error


def _read(data: BinaryIO, dimensions: int, path: Path) -> NDArray[np.uint8]:
    """Return what ``data`` says that it holds; no more than that is read, so that no gzip bomb unfolds."""
    header = data.read(4 + 4 * dimensions)
    if header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)) or len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"expected an IDX file of unsigned bytes in {dimensions} dimensions, "
            f"but {path} begins with {header[:4].hex() or 'nothing'}; get it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", dimensions, offset=4))
    if math.prod(max(1, n) for n in shape) > _MOST_BYTES:  # numpy counts so, too, where one of them is 0
        raise DataError(f"expected {_MOST_BYTES:,} bytes at most, but {path} claims the shape {shape}; get it again")
    content = data.read(math.prod(shape) + 1)  # with the end of a gzip file comes its checksum
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else len(content)
        raise DataError(f"expected {math.prod(shape)} bytes for shape {shape}, but {path} holds {more}; get it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _unpacked(file: BufferedReader) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == _GZIP else file)
