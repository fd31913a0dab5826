"""The activations of a LiteRT model while it is written: channels last, in FP32, in INT8, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.calibration.table import Range

from .flatbuffer import ModelWriter, Quantization

if TYPE_CHECKING:
    import onnx

_KEEPS_VALUES = ("MaxPool", "Reshape", "Flatten", "Identity", "Dropout")


class Activations:
    """Knows shape and range of every tensor of an ONNX graph, and adds it to the file in the type that is asked for.

    Args:
        model: the graph.
        ranges: of its activations; empty where all is FP32.
        writer: of the file.
    """

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, Range], writer: ModelWriter) -> None:
        import onnx

        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._shapes = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
        }
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self._ranges, self._writer = ranges, writer
        self._float: dict[str, int] = {}
        self._int8: dict[str, int] = {}
        self._steps: dict[str, Quantization] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape as ONNX has it, channels first; empty if it is not known."""
        return self._shapes.get(name, ())

    def range_of(self, name: str) -> Range | None:
        """Return the range of an activation, or rather of the last thing that is made of its values alone."""
        readers = self.readers.get(name, [])
        further = None
        if len(readers) == 1 and readers[0].op_type in _KEEPS_VALUES:
            further = self.range_of(readers[0].output[0])
        return further or self._ranges.get(name)

    def taken(self, name: str, kind: str = "") -> tuple[int, Quantization | None]:
        """Return an activation as ``int8`` or ``float32``; by default as it is there, INT8 before FP32."""
        if (kind or "int8") == "int8" and (kind or name in self._int8):
            return self._as_int8(name), self._steps[name]
        return self.as_float(name), None

    def as_float(self, name: str) -> int:
        """Return an activation as FP32."""
        if name not in self._float:
            self._float[name] = self._writer.tensor(f"{name}.float", self._channels_last(name), "float32")
            self._writer.operator("DEQUANTIZE", [self._int8[name]], self._float[name], "DequantizeOptions", 2)
        return self._float[name]

    def _as_int8(self, name: str) -> int:
        if name not in self._int8:
            source = self._float[name]
            self._writer.operator("QUANTIZE", [source], self.added(name, "int8"), "QuantizeOptions")
        return self._int8[name]

    def added(self, name: str, kind: str, steps: Quantization | None = None) -> int:
        """Add the tensor of an activation that the next operator computes.

        Args:
            name: of the activation.
            kind: ``int8`` or ``float32``.
            steps: those of what it is made of, where an operator cannot change them; else its range decides.
        """
        if kind == "float32":
            self._float[name] = self._writer.tensor(name, self._channels_last(name), kind)
            return self._float[name]
        self._steps[name] = steps or _quantization(self.range_of(name))
        self._int8[name] = self._writer.tensor(name, self._channels_last(name), kind, self._steps[name])
        return self._int8[name]

    def rename(self, old: str, new: str) -> None:
        """Let ``new`` be the same activation as ``old``."""
        for kept in (self._float, self._int8):
            if old in kept:
                kept[new] = kept[old]
        if old in self._steps:
            self._steps[new] = self._steps[old]

    def constant(self, name: str, value: NDArray[Any], quantization: Quantization | None = None) -> int:
        """Add a tensor that is known."""
        return self._writer.tensor(name, value.shape, value.dtype.name, quantization, value)

    def integers(self, name: str, values: Sequence[int]) -> int:
        """Add a list of int32, as operators take for shapes and axes."""
        return self.constant(name, np.array(values, np.int32))

    def _channels_last(self, name: str) -> tuple[int, ...]:
        _, *rest = self.shape(name)
        return (-1, *rest[1:], rest[0]) if len(rest) == 3 else (-1, *rest)


def _quantization(found: Range | None) -> Quantization:
    """Return scale and zero point of int8 over a range widened to hold zero."""
    assert found is not None  # noqa: S101 - INT8 is taken of what has a range
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    scale = (high - low) / 255 or 1.0
    return Quantization((scale,), (round(-128 - low / scale),))
