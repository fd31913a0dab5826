"""From an FP32 graph to one typed FP16, whose input and output stay FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` that computes in FP16 between two casts; values beyond FP16's range are clipped to it.

    Operators that have no FP16 form keep FP32 between casts of their own.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    typed = OnnxModel(convert_float_to_float16(copy, keep_io_types=True))
    typed.topological_sort()  # the converter leaves its casts at the end of the list
    result: onnx.ModelProto = typed.model
    return result
