"""From an FP32 graph to one typed BF16, whose input and output stay FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quillrt.runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx

_SUFFIX = ".bf16"
# Inputs that ONNX fixes to FP32 whatever the data are: the scales of Resize, the region of interest of it.
_FP32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
_RECURRENT = ("GRU", "LSTM", "RNN")


def to_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` that computes in BF16 between two casts.

    All float tensors become BF16, for engines that take types from the graph; BF16 has FP32's range, so nothing is
    clipped.

    Raises:
        ExportError: the graph has a recurrent layer, which TensorRT's parser takes apart into BF16 and FP32 mixed; in
            FP32 between casts its compiler refuses it.
    """
    import ml_dtypes
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    recurrent = next((node for node in model.graph.node if node.op_type in _RECURRENT), None)
    if recurrent is not None:
        raise ExportError(
            f"expected a graph without recurrent layers for bf16, found {recurrent.name} ({recurrent.op_type}), "
            "which TensorRT does not take in it; leave bf16 out"
        )
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    graph = typed.graph
    nodes = [part for node in graph.node for part in _parts(node)]
    del graph.node[:]
    graph.node.extend(nodes)
    fixed = {node.input[i] for node in graph.node for i in _FP32_INPUTS.get(node.op_type, ()) if i < len(node.input)}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in fixed:
            values = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.BFLOAT16
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                values = np.asarray(numpy_helper.to_array(attribute.t)).astype(ml_dtypes.bfloat16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    inputs = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    outputs = {value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in graph.node:
        node.input[:] = [f"{name}{_SUFFIX}" if name in inputs | outputs else name for name in node.input]
        node.output[:] = [f"{name}{_SUFFIX}" if name in outputs else name for name in node.output]
    first = [
        helper.make_node("Cast", [name], [f"{name}{_SUFFIX}"], f"{name}.cast", to=TensorProto.BFLOAT16)
        for name in sorted(inputs)
    ]
    last = [
        helper.make_node("Cast", [f"{name}{_SUFFIX}"], [name], f"{name}.cast", to=TensorProto.FLOAT)
        for name in sorted(outputs)
    ]
    nodes = [*first, *graph.node, *last]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return typed


def _parts(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return a node, or HardSwish by its definition: TensorRT reads x * HardSigmoid(x) in BF16, but not the whole."""
    from onnx import helper

    if node.op_type != "HardSwish":
        return [node]
    (source,), (result,) = node.input, node.output
    gate = f"{result}.gate"
    return [
        helper.make_node("HardSigmoid", [source], [gate], gate, alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", [source, gate], [result], node.name),
    ]
