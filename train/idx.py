"""IDX, the file format of MNIST and its kin: a magic number, the dimensions, the bytes.

Source: LeCun, Cortes, Burges, "The MNIST database", section "File formats".
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import DataError

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file, plain or gzipped, as an array of that many dimensions.

    Raises:
        DataError: the file cannot be read, is of another kind or dimension, is cut short or too long.
    """
    data = _unpacked(path)
    header_bytes = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)) or len(data) < header_bytes:
        raise DataError(
            f"expected an IDX file of unsigned bytes in {dimensions} dimensions, "
            f"but {path} begins with {data[:4].hex() or 'nothing'}; get it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, offset=4))
    if len(data) - header_bytes != math.prod(shape):
        raise DataError(
            f"expected {math.prod(shape)} bytes for shape {shape}, "
            f"but {path} holds {len(data) - header_bytes}; get it again"
        )
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == _GZIP else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"expected a whole gzip file, but {path} is damaged: {error}; get it again") from error
    except OSError as error:
        raise DataError(f"expected an IDX file at {path}, but {error.strerror}; check the path") from error
