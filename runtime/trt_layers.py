"""What an engine was really built of: its kernels and the precision of each, as its builder lists them.

Builders write the list at VERBOSE level, headed ``Layers:``, when profiling verbosity is DETAILED; one kernel a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# How TensorRT names a data type: alone (TensorRT-RTX, late 10) or in a format such as "Row major linear FP32" (10.3).
_DATATYPES = {
    "Float": "fp32",
    "FP32": "fp32",
    "Half": "fp16",
    "FP16": "fp16",
    "BFloat16": "bf16",
    "BF16": "bf16",
    "Int8": "int8",
    "INT8": "int8",
    "FP8": "fp8",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
}
_LAYER = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]+), Inputs: \[(?P<inputs>.*?)\], (?:Const|Out)")
_TYPE = re.compile(rf"\b({'|'.join(_DATATYPES)})\b")
_DATATYPE = re.compile(rf"Datatype: [^,}}]*?{_TYPE.pattern}")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
# Kinds of kernel that multiply: "correlation", "gemm", "runtime_fusion" (a product with what follows it) of the newer
# compiler, "CaskConvolution", "CaskGemmMatrixMultiply" and the like of the older.
_PRODUCT = re.compile("correlation|runtime_fusion|convolution|gemm|matrix|fullyconnected", re.IGNORECASE)


@dataclass(frozen=True)
class LayerInfo:
    """One kernel of an engine.

    Attributes:
        name: TensorRT's name for it.
        kind: TensorRT's layer type.
        datatype: what it reads and so computes in, such as ``int8`` or ``fp32``.
        nodes: names of the ONNX nodes it does the work of.
    """

    name: str
    kind: str
    datatype: str
    nodes: tuple[str, ...]

    @property
    def is_product(self) -> bool:
        """It is a convolution or a matrix product: where precision decides speed and accuracy."""
        return _PRODUCT.search(self.kind) is not None


@dataclass(frozen=True)
class LayerTime(LayerInfo):
    """What one kernel takes of a query; kind and datatype are empty where the library does not tell.

    Attributes:
        ms: mean of its time.
    """

    ms: float


def datatype_of(text: str) -> str:
    """Return the data type that TensorRT calls ``Half`` or, in a format, ``Row major linear FP16``; or nothing."""
    found = _TYPE.search(text)
    return _DATATYPES[found[1]] if found else ""


def nodes_in(metadata: str) -> tuple[str, ...]:
    """Return the names of the ONNX nodes in a layer's metadata, such as ``[ONNX Layer: conv1]``."""
    return tuple(_NODE.findall(metadata))


def read_layers(text: str) -> tuple[LayerInfo, ...]:
    """Return the kernels in the ``Layers:`` message of a builder with detailed profiling verbosity.

    Left out is what reads no tensor, such as the computation of a shape on the processor.
    """
    layers = []
    for line in text.split("\n"):  # not splitlines: TensorRT 10 puts the record separator 0x1e between node names
        layer = _LAYER.match(line)
        datatype = _DATATYPE.search(layer["inputs"]) if layer else None
        if layer and datatype:
            layers.append(LayerInfo(layer["name"], layer["kind"], _DATATYPES[datatype[1]], nodes_in(line)))
    return tuple(layers)
