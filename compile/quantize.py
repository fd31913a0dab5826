"""From an FP32 graph and a calibration table to one typed INT8 or FP8: quantize/dequantize pairs around what computes.

The arithmetic is ONNX's QuantizeLinear: q = saturate(round(x / scale) + zero_point). Pairs stand on the inputs of
convolutions and matrix products only, not on what lies between them: TensorRT then fuses a ReLU or a pooling into the
kernel before it, and onnxruntime moves the pairs through them by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.calibration.table import Range
from quillrt.runtime.errors import CalibrationError, ConfigError, ExportError

from .first_convolution import small_first_convolutions
from .macs import MULTIPLYING
from .names import names_read

if TYPE_CHECKING:
    import onnx

_FUSED = ("Relu", "Clip")  # computed in one kernel with the convolution before
_MOVED_THROUGH = ("MaxPool", "Reshape", "Transpose")  # onnxruntime moves a pair behind them to before them


@dataclass(frozen=True)
class Recipe:
    """What an engine wants of a quantized graph.

    Attributes:
        activations: ``uint8`` with a zero point, or ``int8`` or ``float8_e4m3fn`` symmetric about zero.
        quantize_bias: int32 biases of scale input x weight, else biases stay in FP32.
        results: what convolutions give is quantized as well, whoever reads it: onnxruntime's INT8 convolutions give
            INT8, so one before a mean or a sum would be computed in FP32.
        first_in_fp32: a first convolution that gains nothing by INT8 stays in FP32 (``first_convolution``), unless no
            other node is left to be in INT8.
    """

    activations: str
    quantize_bias: bool = False
    results: bool = False
    first_in_fp32: bool = False

    @property
    def weights(self) -> str:
        """Weights are of the same kind, and signed."""
        return "int8" if self.activations == "uint8" else self.activations


# x86 multiplies unsigned by signed bytes in one instruction (VPDPBUSD); TensorRT refuses zero points and int32 biases.
CPU = Recipe("uint8", quantize_bias=True, results=True)
ONNXRUNTIME = replace(CPU, first_in_fp32=True)
TENSORRT = Recipe("int8")
TENSORRT_FP8 = Recipe("float8_e4m3fn")
# The largest magnitude; of E4M3, 1.75 x 2^8: Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433.
_LARGEST = {"int8": 127, "float8_e4m3fn": 448}
_DEQUANTIZED = ".dequantized"
FP8_OPSET = 19  # the first whose QuantizeLinear knows float8


@dataclass(frozen=True)
class NodeDecision:
    """Whether a convolution or matrix product was quantized, and if not, why."""

    name: str
    op_type: str
    quantized: bool
    reason: str = ""


def quantize(
    model: onnx.ModelProto, ranges: Mapping[str, Range], recipe: Recipe, excluded: Collection[str] = ()
) -> tuple[onnx.ModelProto, tuple[NodeDecision, ...]]:
    """Return ``model`` typed by ``recipe``, and the decision taken on every node that could be quantized.

    Weights are symmetric, one scale per output channel; activations have one scale per tensor. The nodes
    ``excluded`` by name stay in FP32.

    Raises:
        CalibrationError: ``ranges`` lacks an activation.
        ConfigError: a name in ``excluded`` is none of a node that could be quantized.
        ExportError: FP8 in a graph of an opset that does not know it.
    """
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if recipe.weights == "float8_e4m3fn" and opset < FP8_OPSET:
        raise ExportError(
            f"expected a graph of opset {FP8_OPSET} or newer for fp8, found opset {opset}; "
            "export it anew or leave fp8 out"
        )
    names = [node.name for node in model.graph.node if node.op_type in MULTIPLYING]
    if strange := sorted(set(excluded) - set(names)):
        raise ConfigError(
            f"expected nodes to exclude out of {', '.join(names)}, found {', '.join(strange)}; "
            "quillrt inspect --nodes lists those of a bundle"
        )
    return _Quantizer(model, ranges, recipe, excluded).run()


def typed_kind(node: onnx.NodeProto, precision: str) -> str:
    """Return what a graph of ``precision`` asks this node to compute in, nothing for FP32; INT8 by what it reads."""
    quantized = node.op_type in MULTIPLYING and node.input[0].endswith(_DEQUANTIZED)
    if precision == "mixed":
        return "int8" if quantized else "fp16"
    return precision if quantized or precision not in ("int8", "fp8") else ""


def activation_scale(low: float, high: float, kind: str) -> tuple[float, int]:
    """Return scale and zero point of a range widened to hold zero: uint8 over 0..255, the others over all they have."""
    low, high = min(low, 0.0), max(high, 0.0)
    if kind == "uint8":
        scale = (high - low) / 255 or 1.0
        return scale, round(-low / scale)
    return max(-low, high) / _LARGEST[kind] or 1.0, 0


def quantize_weight(
    weight: NDArray[np.float32], axis: int, kind: str = "int8", least: NDArray[np.floating] | float = 0.0
) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """Return quantized weights and float32 scales (channels,), symmetric per channel of ``axis``.

    Args:
        weight: of any shape.
        axis: the channels'.
        kind: ``int8`` or ``float8_e4m3fn``.
        least: no scale is smaller than this, for all channels or for each.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest, top = np.abs(weight).max(axis=others), _LARGEST[kind]
    scale = np.maximum(np.where(largest > 0, largest / top, 1), least).astype(np.float32)
    along = [-1 if i == axis else 1 for i in range(weight.ndim)]
    steps = weight / scale.reshape(along)
    return np.clip(np.rint(steps) if kind == "int8" else steps, -top, top).astype(_dtype(kind)), scale


def _dtype(kind: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(ml_dtypes.float8_e4m3fn if kind == "float8_e4m3fn" else kind)


class _Quantizer:
    """One pass over the nodes: each quantizable one is rewired to dequantized inputs, which are made on first use."""

    def __init__(
        self, model: onnx.ModelProto, ranges: Mapping[str, Range], recipe: Recipe, excluded: Collection[str]
    ) -> None:
        import onnx

        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._ranges, self._recipe, self._excluded = ranges, recipe, excluded
        self._constants = {t.name: onnx.numpy_helper.to_array(t) for t in self._model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._added: list[onnx.TensorProto] = []
        self._activations: dict[str, float] = {}  # scale of each that has its pair
        self._makers = {output: node for node in self._model.graph.node for output in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._taken: set[str] = set()  # names of the products that are quantized
        small = small_first_convolutions(model) if recipe.first_in_fp32 else {}
        asked = {node.name for node in model.graph.node if node.op_type in MULTIPLYING}.difference(excluded)
        self._small = small if asked - small.keys() else {}  # a graph has something in INT8

    def run(self) -> tuple[onnx.ModelProto, tuple[NodeDecision, ...]]:
        graph = self._model.graph
        decisions = []
        for node in graph.node:
            if node.op_type in MULTIPLYING:
                reason = self._refusal(node)
                decisions.append(NodeDecision(node.name, node.op_type, not reason, reason))
                if not reason:
                    self._taken.add(node.name)
                    self._rewire(node)
            elif self._recipe.results:
                self._take_results(node)
            self._nodes.append(node)
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = names_read(graph)
        kept = [t for t in graph.initializer if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *self._added])
        return self._model, tuple(decisions)

    def _take_results(self, node: onnx.NodeProto) -> None:
        """Let ``node`` read what quantized convolutions give in INT8, unless it hands it on to a product that does."""
        if not self._reaches_product(node):
            for index, name in enumerate(node.input):
                if name in self._ranges and self._is_result(name, node):
                    node.input[index] = self._activation(name)

    def _is_result(self, name: str, reader: onnx.NodeProto) -> bool:
        """Whether a quantized convolution, or the ReLU in one kernel with it, gives ``name`` to ``reader``."""
        maker = self._makers.get(name)
        if maker is not None and maker.op_type in _FUSED:
            maker = self._makers.get(maker.input[0])
        elif reader.op_type in _FUSED:
            return False
        return maker is not None and maker.op_type == "Conv" and maker.name in self._taken

    def _reaches_product(self, node: onnx.NodeProto) -> bool:
        readers = [reader for output in node.output for reader in self._readers.get(output, ())]
        return (
            bool(readers)
            and node.op_type in _MOVED_THROUGH
            and all(reader.op_type in MULTIPLYING or self._reaches_product(reader) for reader in readers)
        )

    def _refusal(self, node: onnx.NodeProto) -> str:
        if node.name in self._excluded:
            return "it was excluded"
        weight = self._constants.get(node.input[1])
        if weight is None:
            return "its second factor is no constant"
        if weight.dtype != np.float32:
            return f"its weight is {weight.dtype}"
        if node.op_type == "MatMul" and weight.ndim != 2:
            return "its weight is no matrix"
        if node.op_type == "Gemm" and (
            _number(node, "alpha", 1),
            _number(node, "beta", 1),
            _number(node, "transA", 0),
        ) != (1, 1, 0):
            return "it scales or transposes its factors"
        if node.name in self._small:
            return f"{self._small[node.name]} multiply-adds per output value are too few to be faster in INT8"
        return ""

    def _rewire(self, node: onnx.NodeProto) -> None:
        activation, weight, *bias = node.input
        # Channels of the output: rows of a convolution's or a transposed Gemm's weight, else columns.
        axis = 0 if node.op_type == "Conv" or _number(node, "transB", 0) else 1
        node.input[0] = self._activation(activation)
        channels = self._constants[weight].shape[axis]
        offset = self._constants.get(bias[0]) if self._recipe.quantize_bias and bias else None
        if offset is not None:  # a Gemm's may be a row, or one number for all
            offset = np.broadcast_to(offset.reshape(-1), (channels,)) if offset.size in (1, channels) else None
        # An int32 bias counts steps of activation scale x weight scale: a channel of tiny weights and a large bias
        # needs larger steps, in which its weights vanish as they would beside that bias anyway.
        limit, step = np.iinfo(np.int32).max, self._activations[activation]
        least = 0.0 if offset is None else np.abs(offset.astype(np.float64)) / (step * limit)
        steps, scale = quantize_weight(self._constants[weight], axis, self._recipe.weights, least)
        node.input[1] = self._dequantize(f"{node.name}.weight", steps, scale, axis)
        if offset is not None:
            unit = np.float32(step) * scale
            counts = np.rint(offset.astype(np.float64) / unit)
            node.input[2] = self._dequantize(
                f"{node.name}.bias", np.clip(counts, -limit, limit).astype(np.int32), unit, 0
            )

    def _activation(self, name: str) -> str:
        from onnx.helper import make_node

        if name not in self._activations:
            if name not in self._ranges:
                raise CalibrationError(
                    f"expected a range of {name} in the calibration table, found none; calibrate this model again"
                )
            kind = self._recipe.activations
            scale, zero = activation_scale(*self._ranges[name], kind)
            self._activations[name] = scale
            quantized, dequantized = f"{name}.quantized", f"{name}{_DEQUANTIZED}"
            parameters = [
                self._constant(f"{name}.scale", np.array(scale, np.float32)),
                self._constant(f"{name}.zero_point", np.array(zero, _dtype(kind))),
            ]
            self._nodes += [
                make_node("QuantizeLinear", [name, *parameters], [quantized], f"{name}.quantize"),
                make_node("DequantizeLinear", [quantized, *parameters], [dequantized], f"{name}.dequantize"),
            ]
        return f"{name}{_DEQUANTIZED}"

    def _dequantize(self, name: str, steps: NDArray[np.generic], scale: NDArray[np.float32], axis: int) -> str:
        from onnx.helper import make_node

        inputs = [
            self._constant(f"{name}.quantized", steps),
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.zero_point", np.zeros(scale.shape, steps.dtype)),
        ]
        self._nodes.append(
            make_node("DequantizeLinear", inputs, [f"{name}{_DEQUANTIZED}"], f"{name}.dequantize", axis=axis)
        )
        return f"{name}{_DEQUANTIZED}"

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        from onnx.numpy_helper import from_array

        self._added.append(from_array(value, name))
        return name


def _number(node: onnx.NodeProto, attribute: str, default: float) -> float:
    from onnx.helper import get_attribute_value

    return next((float(get_attribute_value(a)) for a in node.attribute if a.name == attribute), default)
