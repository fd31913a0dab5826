"""How much a graph multiplies: what INT8 saves is in its convolutions and matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MULTIPLYING = ("Conv", "Gemm", "MatMul")


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds that one image takes in each convolution and matrix product, by node.

    A convolution takes, for each element of its output, one for each element of a filter; a product, one for each
    element of the shared dimension. Nodes whose shapes ONNX cannot infer are left out.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [_size(d) for d in value.type.tensor_type.shape.dim]
        for group in (inferred.value_info, inferred.input, inferred.output)
        for value in group
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    found = {}
    for node in inferred.node:
        weight, output = shapes.get(node.input[1]) if len(node.input) > 1 else None, shapes.get(node.output[0])
        if node.op_type in MULTIPLYING and weight and output:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            if node.op_type == "Conv":
                shared = math.prod(weight[1:])
            else:
                shared = weight[-1 if transposed or len(weight) == 1 else -2]
            found[node.name] = math.prod(output) * shared
    return found


def _size(dimension: onnx.TensorShapeProto.Dimension) -> int:
    """Return a dimension; one that has a name is the batch, here of one image."""
    return dimension.dim_value if dimension.HasField("dim_value") else 1
