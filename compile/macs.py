"""How much a graph multiplies: what INT8 saves is in its convolutions and matrix products."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from .quantize import QUANTIZABLE, typed_kind

if TYPE_CHECKING:
    import onnx

_NAMED = 3  # nodes that a message names


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
        if node.op_type in QUANTIZABLE and weight and output:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            if node.op_type == "Conv":
                shared = math.prod(weight[1:])
            else:
                shared = weight[-1 if transposed or len(weight) == 1 else -2]
            found[node.name] = math.prod(output) * shared
    return found


class Computed(NamedTuple):
    """What kernels multiply in.

    Attributes:
        macs: multiply-adds of one image by datatype, ``unknown`` for nodes that no kernel names.
        share: of what the graph types in its precision, the share that is computed so, 0..1.
        strays: the nodes of the rest, those that multiply most first.
    """

    macs: dict[str, int]
    share: float
    strays: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in self.macs.items())
        more = f" and {len(self.strays) - _NAMED} more" if len(self.strays) > _NAMED else ""
        return f"{self.share:.0%} ({counts}), not so {', '.join(self.strays[:_NAMED])}{more}"


def by_datatype(model: onnx.ModelProto, datatypes: Mapping[str, str], precision: str) -> Computed:
    """Return what kernels multiply in, and how much of it as the graph types it.

    Args:
        model: the typed graph.
        datatypes: of the kernel that does the work of each node, by the node's name.
        precision: of the graph.
    """
    counts = multiply_adds(model)
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[datatypes.get(name, "unknown")] += count
    kinds = {node.name: typed_kind(node, precision) for node in model.graph.node if node.name in counts}
    wanted = sum(counts[name] for name, kind in kinds.items() if kind)
    strays = [name for name, kind in kinds.items() if kind and datatypes.get(name) != kind]
    share = 1 - sum(counts[name] for name in strays) / wanted if wanted else 1.0
    return Computed(dict(found), share, tuple(sorted(strays, key=lambda name: -counts[name])))


def _size(dimension: onnx.TensorShapeProto.Dimension) -> int:
    """Return a dimension; one that has a name is the batch, here of one image."""
    return dimension.dim_value if dimension.HasField("dim_value") else 1
