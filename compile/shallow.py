"""Which convolutions onnxruntime computes quicker in FP32: those of the image, with few products for a value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from quillrt.runtime.fallback import LEAST_SHARE

from .macs import multiply_adds

if TYPE_CHECKING:
    import onnx

# onnxruntime copies what each value needs into a row of its own before it multiplies bytes, but has a kernel for FP32
# that reads planes of pixels. Measured on a Xeon with AMX, batch 1, with the quantizing behind it: FP32 takes 0.63 to
# 0.85 of INT8's time for 9 to 27 products (1 to 3 channels, 3 x 3), 1.12 to 1.56 for 36 to 144.
_FEWEST_PRODUCTS = 32


def shallow_convolutions(model: onnx.ModelProto) -> dict[str, int]:
    """Return the products for one value, fewer than 32, of each convolution of an input of the graph, by node.

    None where together they are more of the multiply-adds than an INT8 graph may leave in another precision, or their
    share is not known.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    images = {value.name for value in model.graph.input} - weights.keys()
    found = {
        node.name: math.prod(weights[node.input[1]].dims[1:])
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[0] in images and node.input[1] in weights
    }
    shallow = {name: products for name, products in found.items() if products < _FEWEST_PRODUCTS}
    counts = multiply_adds(model) if shallow else {}
    whole = sum(counts.values())
    others = whole - sum(counts.get(name, whole) for name in shallow)
    return shallow if others >= LEAST_SHARE * whole else {}
