"""A LiteRT model (``.tflite``) put together tensor by tensor; its schema is tensorflow/lite/schema/schema.fbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
_OLD_CODES = 127  # operators up to here have their number in a second, older field, too


@dataclass(frozen=True)
class Quantization:
    """Integers stand for ``scale * (q - zero_point)``: one pair for the tensor, or one for each slice of ``axis``."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


class ModelWriter:
    """Collects tensors and operators of one graph; an operator is written with the schema's own option tables."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._buffers = [schema.BufferT(data=[])]  # the first is empty, for tensors that are computed

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | None = None,
        data: NDArray[Any] | None = None,
    ) -> int:
        """Add a tensor of ``shape``, -1 for a batch of any size (1 until it is resized); return its index."""
        schema = self.schema
        tensor = schema.TensorT(
            shape=[max(1, d) for d in shape],
            shapeSignature=list(shape) if -1 in shape else None,
            type=getattr(schema.TensorType, dtype.upper()),
            name=name,
            hasRank=True,
            buffer=0 if data is None else len(self._buffers),
        )
        if data is not None:
            self._buffers.append(schema.BufferT(data=np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)))
        if quantization is not None:
            tensor.quantization = schema.QuantizationParametersT(
                scale=list(quantization.scales),
                zeroPoint=list(quantization.zero_points),
                quantizedDimension=quantization.axis,
            )
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], output: int, options: str = "", version: int = 1, **settings: Any
    ) -> None:
        """Add an operator such as ``CONV_2D``, its table of options such as ``Conv2DOptions`` and what stands in it."""
        schema = self.schema
        code = self._codes.setdefault((name, version), len(self._codes))
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=code,
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, options) if options else 0,
                builtinOptions=getattr(schema, f"{options}T")(**settings) if options else None,
            )
        )

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file."""
        import flatbuffers

        schema = self.schema
        codes = [(getattr(schema.BuiltinOperator, name), version) for name, version in self._codes]
        model = schema.ModelT(
            version=_SCHEMA_VERSION,
            operatorCodes=[
                schema.OperatorCodeT(deprecatedBuiltinCode=min(code, _OLD_CODES), builtinCode=code, version=version)
                for code, version in codes
            ],
            subgraphs=[
                schema.SubGraphT(
                    tensors=self._tensors,
                    inputs=list(inputs),
                    outputs=list(outputs),
                    operators=self._operators,
                    name="main",
                )
            ],
            buffers=self._buffers,
            description="quillrt",
        )
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())
