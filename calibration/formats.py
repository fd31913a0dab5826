"""Tables of other tools: TensorRT 10's calibration cache and the table that onnxruntime's TensorRT provider reads.

Both know one number a tensor, its largest magnitude: on the way back, a range is symmetric.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.files import read_bounded, write_bytes
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.versions import versions

from .collect import activations, fingerprint
from .table import IMPORTED, CalibrationTable, Range

if TYPE_CHECKING:
    import onnx

_HEADER = "TRT-100300-EntropyCalibration2"  # the version of JetPack 6 and the calibrator that TensorRT advises
_TENSORRT_LINE = re.compile(r"(.+): ([0-9a-f]{8})")
_LARGEST_LEVEL = 127
_MOST_BYTES = 2**24  # a hundred bytes a tensor


def to_tensorrt_cache(ranges: Mapping[str, Range]) -> bytes:
    """Return the text of a cache: a header, then for each tensor the bits of its float32 scale, magnitude / 127."""
    lines = [f"{name}: {struct.pack('>f', magnitude / _LARGEST_LEVEL).hex()}" for name, magnitude in _sizes(ranges)]
    return "\n".join([_HEADER, *lines, ""]).encode()


def from_tensorrt_cache(data: bytes) -> dict[str, Range]:
    """Return the ranges in a cache.

    Raises:
        ValueError: it is none.
    """
    header, *lines = data.decode().splitlines() or [""]
    if not header.startswith("TRT-"):
        raise ValueError(f"its first line is {header[:40]!r}, not TRT-VERSION-CALIBRATION")
    ranges = {}
    for line in lines:
        match = _TENSORRT_LINE.fullmatch(line)
        if not match:
            raise ValueError(f"the line {line[:60]!r} is no NAME: HEXADECIMAL")
        (scale,) = struct.unpack(">f", bytes.fromhex(match[2]))
        ranges[match[1]] = (-_LARGEST_LEVEL * scale, _LARGEST_LEVEL * scale)
    return ranges


def to_onnxruntime(ranges: Mapping[str, Range]) -> bytes:
    """Return the flatbuffer that ``trt_int8_calibration_table_name`` names: each tensor's magnitude, as text."""
    import flatbuffers
    from onnxruntime.quantization.CalTableFlatBuffers import KeyValue, TrtTable

    builder = flatbuffers.Builder(1024)
    pairs = []
    for name, magnitude in _sizes(ranges):
        key, value = builder.CreateString(name), builder.CreateString(repr(magnitude))
        KeyValue.KeyValueStart(builder)
        KeyValue.KeyValueAddKey(builder, key)
        KeyValue.KeyValueAddValue(builder, value)
        pairs.append(KeyValue.KeyValueEnd(builder))
    TrtTable.TrtTableStartDictVector(builder, len(pairs))
    for pair in reversed(pairs):
        builder.PrependUOffsetTRelative(pair)
    entries = builder.EndVector()
    TrtTable.TrtTableStart(builder)
    TrtTable.TrtTableAddDict(builder, entries)
    builder.Finish(TrtTable.TrtTableEnd(builder))
    return bytes(builder.Output())


def from_onnxruntime(data: bytes) -> dict[str, Range]:
    """Return the ranges in such a flatbuffer.

    Raises:
        ValueError: it is none.
    """
    from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

    try:
        table = TrtTable.GetRootAsTrtTable(data, 0)
        pairs = [table.Dict(i) for i in range(table.DictLength())]
        sizes = {pair.Key().decode(): float(pair.Value()) for pair in pairs}
    except (struct.error, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error  # what reading flatbuffers out of other bytes raises
    return {name: (-size, size) for name, size in sizes.items()}


_WRITERS: dict[str, Callable[[Mapping[str, Range]], bytes]] = {
    ".cache": to_tensorrt_cache,
    ".flatbuffers": to_onnxruntime,
}
_READERS: dict[str, Callable[[bytes], dict[str, Range]]] = {
    ".cache": from_tensorrt_cache,
    ".flatbuffers": from_onnxruntime,
}


def check_format(path: Path) -> None:
    """Raise unless the ending of ``path`` names a format.

    Raises:
        CalibrationError: it does not.
    """
    if path.suffix not in _WRITERS:
        raise CalibrationError(
            f"expected a name ending in .cache (TensorRT 10) or .flatbuffers (onnxruntime), found {path}; rename it"
        )


def export(table: CalibrationTable, path: Path) -> None:
    """Write ``table`` in the format that the ending of ``path`` names, whole or not at all.

    Raises:
        CalibrationError: it names none.
    """
    check_format(path)
    write_bytes(path, _WRITERS[path.suffix](table.ranges))


def imported(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> CalibrationTable:
    """Return the ranges at ``path``, which another tool found, as a table for ``model``.

    Raises:
        CalibrationError: no file, none of these formats, or activations of ``model`` that it lacks.
    """
    check_format(path)
    try:
        found = _READERS[path.suffix](read_bounded(path, _MOST_BYTES))
    except OSError as error:
        raise CalibrationError(
            f"expected calibration ranges at {path}, but {error.strerror}; check the path"
        ) from error
    except ValueError as error:
        raise CalibrationError(f"expected calibration ranges, but {path} is malformed: {error}") from error
    strange = [name for name, (_, high) in found.items() if not 0 <= high < math.inf]
    if strange:
        raise CalibrationError(f"{path}: the range of {strange[0]} must be finite and positive; export it again")
    lacking = sorted(activations(model) - found.keys())
    if lacking:
        raise CalibrationError(
            f"expected a range for each activation of the model, but {path} lacks {', '.join(lacking[:5])}; "
            "tensors must have the ONNX graph's names"
        )
    return CalibrationTable(
        method=IMPORTED,
        percentile=None,
        ranges={name: found[name] for name in sorted(activations(model))},
        observed={},
        samples=(),
        dataset=path.name,
        model_sha256=fingerprint(model),
        preprocessing=spec.preprocessing,
        tools=versions("quillrt"),
    )


def _sizes(ranges: Mapping[str, Range]) -> list[tuple[str, float]]:
    return [(name, max(-low, high)) for name, (low, high) in ranges.items()]
