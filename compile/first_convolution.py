"""Which convolutions onnxruntime computes faster in FP32: those of the image, where a value takes few multiply-adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .macs import multiply_adds

if TYPE_CHECKING:
    import onnx

# onnxruntime copies what each value needs into a row of its own before it multiplies bytes, but has an FP32 kernel that
# reads planes of few channels as they lie. On a Xeon with AMX (onnxruntime 1.32.0, one thread; n = 60 interleaved turns
# at batch 1, 15 at batch 64), quantizing included, FP32 takes 0.31 to 0.91 (batch 64: 0.30 to 1.00) of INT8's time for
# 1 to 3 channels and 9 to 50 multiply-adds a value, but 0.95 to 1.30 for 75 to 147, 1.12 to 1.38 for 4 channels and
# 0.98 to 1.18 for kernels of 1 x 1. Other processors were not measured.
_MOST_CHANNELS = 3
_TOO_MANY = 64
_LEAST_SHARE = 0.9  # of the multiply-adds that an INT8 graph has in INT8, or it would be one by name only


def small_first_convolutions(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds per output value of each convolution of the graph's input that has few, by node.

    Few are fewer than 64, over an input of 1 to 3 channels and a kernel of more than one pixel. None is returned where
    they are more than a tenth of all multiply-adds, or where shape inference cannot tell.
    """
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    images = {value.name for value in model.graph.input} - weights.keys()
    small = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[0] in images and node.input[1] in weights:
            channels, *kernel = weights[node.input[1]][1:]
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            count = channels * math.prod(kernel)
            if channels * groups <= _MOST_CHANNELS and math.prod(kernel) > 1 and count < _TOO_MANY:
                small[node.name] = count
    counts = multiply_adds(model) if small else {}
    whole = sum(counts.values())
    if not small.keys() <= counts.keys() or whole - sum(counts[name] for name in small) < _LEAST_SHARE * whole:
        return {}
    return small
