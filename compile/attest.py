"""What onnxruntime and OpenVINO really compute a graph in on this machine, as they tell themselves.

onnxruntime tells by its profile of one image: each kernel with the datatype it reads. OpenVINO tells by the compiled
model's runtime model: each kernel with its precision and the names of the nodes it does the work of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from quillrt.runtime.backends import ONNX_ON_CPU, why_unavailable
from quillrt.runtime.device import processor
from quillrt.runtime.errors import BuildError, BundleError
from quillrt.runtime.ort_profile import profile
from quillrt.runtime.ov import OpenVINOSession
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.trt_layers import LayerInfo
from quillrt.runtime.versions import versions

from .computed import by_datatype
from .macs import MULTIPLYING

if TYPE_CHECKING:
    import onnx

    from .graphs import File

_Kernel = TypeVar("_Kernel", bound=LayerInfo)

# As OpenVINO names the type that a kernel reads.
_DATATYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
# Kernels that only change type or layout: onnxruntime's operators, then OpenVINO's kinds of layer.
_REFORMATS = {"QuantizeLinear", "DequantizeLinear", "Cast", "ReorderInput", "ReorderOutput", "Transpose"}
_REFORMATS |= {"FakeQuantize", "Convert", "Reorder"}


def attest_graphs(
    files: Sequence[File], spec: ModelSpec, targets: Collection[str], least_share: float
) -> tuple[list[File], dict[str, list[dict[str, Any]]]]:
    """Ask each CPU backend that works here what it makes of each graph that it opens.

    Args:
        files: graphs with their entries.
        spec: of the model.
        targets: those for which INT8 was asked for.
        least_share: of the multiply-adds that an INT8 graph types so, 0..1; a target that computes less is refused.

    Returns:
        The files, ``built_for["kernels"]`` of each entry filled in by backend: ``products`` and ``macs`` by datatype,
        ``reformats`` (kernels that only change type or layout), ``version``, ``cpu`` and its ``instructions``, for
        another processor gets other kernels; and the kernels by file and backend.

    Raises:
        BuildError: a target computes too little of an INT8 graph in INT8.
    """
    import onnx

    cpu, instructions = processor()
    layers: dict[str, list[dict[str, Any]]] = {}
    attested: list[File] = []
    for entry, data in files:
        found: dict[str, Any] = {}
        for backend in (b for b in ONNX_ON_CPU if b in entry.backends and why_unavailable(b) is None):
            model = onnx.load_from_string(data)
            try:
                kernels = attributed(model, _READERS[backend](data, spec))
            except BundleError:
                continue  # the backend refuses the graph, which verifying says
            precision = entry.precision.value if entry.precision else ""
            computed = by_datatype(model, datatypes(kernels), precision)
            if entry.precision is Precision.INT8 and backend in targets and computed.share < least_share:
                raise BuildError(
                    f"expected {backend} to compute {least_share:.0%} of the multiply-adds of {entry.path} in int8 "
                    f"on this machine, found {computed}; leave int8 out for this target, or give "
                    "--allow-fallback"
                )
            products = Counter(kernel.datatype for kernel in kernels if kernel.nodes)
            reformats = sum(kernel.kind in _REFORMATS for kernel in kernels)
            found[backend] = {
                "products": dict(products),
                "macs": computed.macs,
                "reformats": reformats,
                "version": versions(_PACKAGES[backend])[_PACKAGES[backend]],
                "cpu": cpu,
                "instructions": list(instructions),
            }
            layers[f"{entry.path} on {backend}"] = [asdict(kernel) for kernel in kernels]
        built_for = {**entry.built_for, "kernels": found} if found else entry.built_for
        attested.append((replace(entry, built_for=built_for), data))
    return attested, layers


def datatypes(kernels: Sequence[LayerInfo]) -> dict[str, str]:
    """Return the datatype of each node that a kernel does the work of."""
    return {node: kernel.datatype for kernel in kernels for node in kernel.nodes}


def attributed(model: onnx.ModelProto, kernels: Sequence[_Kernel]) -> list[_Kernel]:
    """Return the kernels, ``nodes`` of each made the convolutions and products of ``model`` that it does the work of.

    A backend names a kernel after one of the nodes fused into it, or its output, with something before or behind:
    what is named after no product itself, such as the ReLU behind one, belongs to the nearest product before it.
    """
    graph = model.graph
    known = {node.name for node in graph.node}
    named = {node.output[0]: node.name for node in graph.node} | {name: name for name in known}
    makers = {name: node for node in graph.node for name in node.output}
    nodes = {node.name: node for node in graph.node}
    products = {node.name for node in graph.node if node.op_type in MULTIPLYING}
    result = []
    for kernel in kernels:
        if kernel.kind in _REFORMATS or not _is_product(kernel.kind):
            result.append(replace(kernel, nodes=()))
            continue
        ours = [name for name in (_ours(each, named) for each in kernel.nodes) if name]
        direct = [name for name in ours if name in products]
        behind = [_product_before(nodes[name], makers, products) for name in ours]
        found = direct or [name for name in behind if name][:1]
        result.append(replace(kernel, nodes=tuple(dict.fromkeys(found))))
    return result


def with_nodes(model: onnx.ModelProto, kernels: Sequence[_Kernel]) -> list[_Kernel]:
    """Return the kernels, ``nodes`` of each made the nodes of ``model`` that are known to be in it, products first."""
    known = {node.name for node in model.graph.node}
    return [
        replace(kernel, nodes=tuple(dict.fromkeys((*kernel.nodes, *(name for name in named.nodes if name in known)))))
        for kernel, named in zip(attributed(model, kernels), kernels, strict=True)
    ]


def _is_product(kind: str) -> bool:
    lowered = kind.lower()
    return any(word in lowered for word in ("conv", "gemm", "matmul", "fullyconnected"))


def _ours(name: str, named: dict[str, str]) -> str:
    """Return the node of our graph that ``name`` begins with, or nothing."""
    while name and name not in named:
        name = name[: max(name.rfind("_"), name.rfind("/"), 0)]
    return named.get(name, "")


def _product_before(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], products: set[str]) -> str:
    """Return the nearest convolution or product before ``node``, along first inputs; nothing if there is none."""
    before = makers.get(node.input[0]) if node.input else None
    while before is not None and before.name not in products:
        before = makers.get(before.input[0]) if before.input else None
    return "" if before is None else before.name


def _onnxruntime(graph: bytes, spec: ModelSpec) -> list[LayerInfo]:
    """Return the kernels that one image runs through.

    Raises:
        BundleError: onnxruntime refuses the graph.
    """
    image = np.zeros([d or 1 for d in spec.input.shape], np.float32)
    return [kernel for kernel, _ in profile(graph, spec, image)]


def _openvino(graph: bytes, spec: ModelSpec) -> list[LayerInfo]:
    """Return the kernels of the runtime model, opened as ``runtime/ov.py`` opens graphs; constants are none.

    Raises:
        BundleError: OpenVINO refuses the graph.
    """
    with OpenVINOSession(graph, spec, SessionOptions(batch_sizes=(1,))) as session:
        found = [(op.get_friendly_name(), op.get_rt_info()) for op in session.runtime_model().get_ordered_ops()]
        facts = [
            (name, *(str(info[key].astype(str)) for key in ("layerType", "runtimePrecision", "originalLayersNames")))
            for name, info in found
        ]
    return [
        LayerInfo(name, kind, _DATATYPES.get(read, read), tuple(filter(None, originals.split(","))))
        for name, kind, read, originals in facts
        if kind not in ("Const", "Input", "Output")
    ]


_READERS: dict[str, Callable[[bytes, ModelSpec], list[LayerInfo]]] = {
    "onnxruntime-cpu": _onnxruntime,
    "openvino": _openvino,
}
_PACKAGES = {"onnxruntime-cpu": "onnxruntime", "openvino": "openvino"}
