"""Batch norms of other exporters' graphs folded into the convolutions before them; torch's exporter does its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .names import names_read

if TYPE_CHECKING:
    import onnx

_EPSILON = 1e-5  # BatchNormalization's default


def fold_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` without the batch norms that alone read a convolution of constant weights.

    A norm is y = (x - mean) * scale / sqrt(variance + epsilon) + bias for each channel, which scales the convolution's
    output channels and shifts its bias.
    """
    import onnx
    from onnx.helper import get_attribute_value
    from onnx.numpy_helper import from_array, to_array

    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    constants = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    readers = [name for node in graph.node for name in node.input] + [output.name for output in graph.output]
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        convolution = makers.get(norm.input[0])
        if convolution is None or convolution.op_type != "Conv" or readers.count(norm.input[0]) > 1:
            continue
        known = [constants.get(name) for name in (*norm.input[1:], *convolution.input[1:])]
        if any(value is None or value.dtype != np.float32 for value in known) or len(norm.output) > 1:
            continue
        scale, offset, mean, variance, weight, *bias = (np.asarray(value, np.float64) for value in known)
        settings = {attribute.name: get_attribute_value(attribute) for attribute in norm.attribute}
        if settings.get("training_mode"):
            continue  # it takes mean and variance of the batch it is given
        epsilon = settings.get("epsilon", _EPSILON)
        factor = scale / np.sqrt(variance + epsilon)
        moved = offset + ((bias[0] if bias else 0.0) - mean) * factor
        values = {"weight": weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)), "bias": moved}
        names = {kind: f"{norm.output[0]}.folded_{kind}" for kind in values}  # the norm's own may end in .weight
        graph.initializer.extend(from_array(value.astype(np.float32), names[kind]) for kind, value in values.items())
        convolution.input[1:] = list(names.values())
        convolution.output[0] = norm.output[0]
        graph.node.remove(norm)
    used = names_read(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return folded
