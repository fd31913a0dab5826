"""From an FP32 graph and ranges to a LiteRT model: channels last, in FP32 or in INT8 as LiteRT specifies it.

Source: "LiteRT 8-bit quantization specification", ai.google.dev: activations int8 with a zero point, weights int8,
symmetric, a scale for each output channel, biases int32 of scale input x weight. Written by us rather than by
litert-torch, so that the ranges are those of our tables and ONNX files are taken, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quillrt.calibration.table import Range
from quillrt.runtime.errors import ExportError

from .flatbuffer import ModelWriter, Quantization
from .litert_tensors import Activations
from .litert_windows import attributes_of, refuse, version_of, window
from .macs import MULTIPLYING
from .quantize import NodeDecision, quantize_weight

if TYPE_CHECKING:
    import onnx

_PLAIN, _RELU, _RELU6 = 0, 1, 3  # ActivationFunctionType
_INT32 = np.iinfo(np.int32).max


def to_litert(
    model: onnx.ModelProto, ranges: Mapping[str, Range] | None = None, excluded: Collection[str] = ()
) -> tuple[bytes, tuple[NodeDecision, ...]]:
    """Return ``model`` as a ``.tflite`` file, and the decision taken on each convolution and product.

    Input and output stay as they are: float32 (N, C, H, W), N as the runtime resizes it, and float32 (N, K).

    Args:
        model: the FP32 graph, batch norms folded.
        ranges: of the activations, for INT8; ``None`` for FP32.
        excluded: names of products that INT8 leaves in FP32.

    Raises:
        ExportError: an operator, or a form of it, that is not known here; names the node.
    """
    return _Converter(model, ranges, excluded).run()


class _Converter:
    """Goes through the nodes in order."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, Range] | None, excluded: Collection[str]) -> None:
        import onnx

        self._graph, self._excluded, self._quantizes = model.graph, excluded, ranges is not None
        self._constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        self._writer = ModelWriter()
        self._activations = Activations(model, ranges or {}, self._writer)
        self._flattened: dict[str, tuple[int, ...]] = {}  # channels last; the (C, H, W) they were
        self._fused: set[str] = set()
        self._decisions: list[NodeDecision] = []

    def run(self) -> tuple[bytes, tuple[NodeDecision, ...]]:
        converters: dict[str, Callable[[onnx.NodeProto], None]] = {
            **dict.fromkeys(MULTIPLYING, self._product),
            **dict.fromkeys(("Relu", "Clip"), self._activation),
            **dict.fromkeys(("MaxPool", "AveragePool"), self._pool),
            **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), self._mean),
            **dict.fromkeys(("Reshape", "Flatten"), self._flatten),
            **dict.fromkeys(("Identity", "Dropout"), self._pass),
            "Add": self._add,
            "Concat": self._concat,
        }
        inputs = [self._image()]
        for node in self._graph.node:
            if node.op_type not in converters:
                raise ExportError(
                    f"expected operators out of {', '.join(converters)} for litert, found {node.op_type} at node "
                    f"{node.name}; leave the target litert out"
                )
            if node.name not in self._fused:
                converters[node.op_type](node)
        outputs = [self._activations.as_float(self._graph.output[0].name)]
        return self._writer.finish(inputs, outputs), tuple(self._decisions)

    def _image(self) -> int:
        """Add the input and turn it to channels last; for one channel that is a matter of names."""
        name = self._graph.input[0].name
        _, channels, height, width = self._activations.shape(name)
        given = self._writer.tensor(f"{name}.channels_first", (-1, channels, height, width), "float32")
        turned = self._activations.added(name, "float32")
        if channels == 1:
            self._reshape(f"{name}.shape", given, turned, (-1, height, width, channels))
        else:
            order = self._activations.integers(f"{name}.order", (0, 2, 3, 1))
            self._writer.operator("TRANSPOSE", [given, order], turned, "TransposeOptions")
        return given

    def _reshape(self, name: str, source: int, target: int, shape: tuple[int, ...]) -> None:
        inputs = [source, self._activations.integers(name, shape)]
        self._writer.operator("RESHAPE", inputs, target, "ReshapeOptions", newShape=shape)

    def _product(self, node: onnx.NodeProto) -> None:
        refusal = self._refusal(node)
        kind = "float32" if refusal else "int8"
        if self._quantizes:
            self._decisions.append(NodeDecision(node.name, node.op_type, not refusal, refusal))
        source, steps = self._activations.taken(node.input[0], kind)
        weight = self._weight(node)
        bias = self._bias(node, len(weight))
        operator, options, axis = "FULLY_CONNECTED", "FullyConnectedOptions", 0
        settings: dict[str, int] = {}
        if node.op_type == "Conv":
            operator, weight, axis = self._convolution(node, weight)
            options = "Conv2DOptions" if operator == "CONV_2D" else "DepthwiseConv2DOptions"
            settings, pads = window(node, weight.shape[1:3])
            source = self._padded(node, source, steps, pads, 0.0 if steps is None else steps.zero_points[0])
            (tall, wide) = attributes_of(node).get("dilations", (1, 1))
            settings |= {"dilationHFactor": tall, "dilationWFactor": wide}
            settings |= {"depthMultiplier": 1} if axis else {}
        activation, name = self._fuse(node)
        target = self._activations.added(name, kind)
        inputs = [source, *self._factors(node.name, weight, bias, axis, steps)]
        version = 1 if steps is None else 3
        self._writer.operator(
            operator, inputs, target, options, version, fusedActivationFunction=activation, **settings
        )

    def _refusal(self, node: onnx.NodeProto) -> str:
        """Return why INT8 does not compute this node; empty if it does."""
        result = self._fused_name(node)
        if not self._quantizes:
            return "the model is FP32"
        if node.name in self._excluded:
            return "it was excluded"
        if result == self._graph.output[0].name:
            return "it gives the logits, which int8 would round and clip for no gain in time"
        known = all(self._activations.range_of(name) for name in (node.input[0], result))
        return "" if known else "its values were not counted"

    def _weight(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        """Return a weight with output channels first."""
        weight, attributes = self._constants.get(node.input[1]), attributes_of(node)
        rank = 4 if node.op_type == "Conv" else 2
        if weight is None or weight.dtype != np.float32 or weight.ndim != rank:
            refuse(node, f"a constant FP32 weight of {rank} dimensions")
        if node.op_type == "Conv":
            return weight
        if (attributes.get("alpha", 1), attributes.get("beta", 1), attributes.get("transA", 0)) != (1, 1, 0):
            refuse(node, "a plain product")
        if not attributes.get("transB", 0):
            weight = weight.T
        if shape := self._flattened.get(node.input[0]):
            weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        return weight

    def _bias(self, node: onnx.NodeProto, channels: int) -> NDArray[np.float32]:
        bias = self._constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(channels, np.float32)
        if bias is None:
            refuse(node, "a constant bias")
        return np.broadcast_to(bias.reshape(-1), (channels,)).astype(np.float32)

    def _convolution(self, node: onnx.NodeProto, weight: NDArray[np.float32]) -> tuple[str, NDArray[np.float32], int]:
        """Return the operator, its weight as it wants it, and the axis of the output channels there."""
        groups, channels = attributes_of(node).get("group", 1), self._activations.shape(node.input[0])[1]
        if groups == 1:
            return "CONV_2D", weight.transpose(0, 2, 3, 1), 0
        if not groups == channels == len(weight):
            refuse(node, "one group, or one for each channel in and out,")
        return "DEPTHWISE_CONV_2D", weight.transpose(1, 2, 3, 0), 3

    def _factors(
        self, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32], axis: int, steps: Quantization | None
    ) -> list[int]:
        """Add weight and bias, in the steps that go with the input's ``steps``."""
        constant = self._activations.constant
        if steps is None:
            return [constant(f"{name}.weight", weight), constant(f"{name}.bias", bias)]
        (unit,) = steps.scales
        # As in `quantize`: where a bias is too many steps for int32, the steps grow.
        integers, scales = quantize_weight(weight, axis, least=np.abs(bias) / (unit * _INT32))
        units = unit * scales.astype(np.float64)
        counts = np.clip(np.rint(bias / units), -_INT32, _INT32).astype(np.int32)
        zeros = (0,) * len(scales)
        return [
            constant(f"{name}.weight", integers, Quantization(tuple(scales.tolist()), zeros, axis)),
            constant(f"{name}.bias", counts, Quantization(tuple(units.tolist()), zeros)),
        ]

    def _activation(self, node: onnx.NodeProto) -> None:
        """One that follows nothing it could be part of."""
        kind = self._kind_of_activation(node)
        if kind == _PLAIN:
            refuse(node, "constant limits of 0 and 6")
        source, steps = self._activations.taken(node.input[0])
        target = self._activations.added(node.output[0], "float32" if steps is None else "int8", steps)
        self._writer.operator("RELU" if kind == _RELU else "RELU6", [source], target, version=version_of(steps))

    def _pool(self, node: onnx.NodeProto) -> None:
        attributes, largest = attributes_of(node), node.op_type == "MaxPool"
        if attributes.get("ceil_mode", 0) or set(attributes.get("dilations", [1])) != {1} or len(node.output) > 1:
            refuse(node, "no ceil_mode, dilations or indices")
        if not largest and any(attributes.get("pads", [0])):
            refuse(node, "no padding")
        source, steps = self._activations.taken(node.input[0])
        tall, wide = attributes["kernel_shape"]
        settings, pads = window(node, (tall, wide))
        source = self._padded(node, source, steps, pads, float(np.finfo(np.float32).min) if steps is None else -128)
        target = self._activations.added(node.output[0], "float32" if steps is None else "int8", steps)
        operator = "MAX_POOL_2D" if largest else "AVERAGE_POOL_2D"
        settings |= {"filterHeight": tall, "filterWidth": wide}
        self._writer.operator(operator, [source], target, "Pool2DOptions", version_of(steps), **settings)

    def _padded(
        self, node: onnx.NodeProto, source: int, steps: Quantization | None, pads: tuple[int, ...], filling: float
    ) -> int:
        """Return ``source`` with ``filling`` around it."""
        if not pads:
            return source
        top, left, bottom, right = pads
        _, channels, height, width = self._activations.shape(node.input[0])
        kind = "float32" if steps is None else "int8"
        shape = (-1, height + top + bottom, width + left + right, channels)
        padded = self._writer.tensor(f"{node.name}.padded", shape, kind, steps)
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        inputs = [
            source,
            self._activations.constant(f"{node.name}.pads", amounts),
            self._activations.constant(f"{node.name}.filling", np.array([filling], kind), steps),
        ]
        self._writer.operator("PADV2", inputs, padded, "PadV2Options", version_of(steps))
        return padded

    def _mean(self, node: onnx.NodeProto) -> None:
        attributes, name = attributes_of(node), node.output[0]
        axes = attributes.get("axes", [2, 3]) if len(node.input) < 2 else self._constants.get(node.input[1])
        rank = len(self._activations.shape(node.input[0]))
        if axes is None or sorted(int(axis) % rank for axis in axes) != [2, 3]:
            refuse(node, "a mean over height and width")
        keep = node.op_type == "GlobalAveragePool" or bool(attributes.get("keepdims", 1))
        source, steps = self._activations.taken(node.input[0])
        if steps is not None and self._activations.range_of(name) is None:
            source, steps = self._activations.taken(node.input[0], "float32")
        target = self._activations.added(name, "float32" if steps is None else "int8")
        inputs = [source, self._activations.integers(f"{node.name}.axes", (1, 2))]
        self._writer.operator("MEAN", inputs, target, "ReducerOptions", version_of(steps), keepDims=keep)

    def _flatten(self, node: onnx.NodeProto) -> None:
        """Channels last come out in another order than channels first: the weights behind are reordered instead."""
        before, name = self._activations.shape(node.input[0]), node.output[0]
        size = int(np.prod(before[1:]))
        if self._activations.shape(name)[1:] != (size,):
            refuse(node, f"a change to (N, {size})")
        if before[2:] not in ((), (1, 1)):
            if any(reader.op_type not in ("Gemm", "MatMul") for reader in self._activations.readers.get(name, ())):
                refuse(node, "Gemm or MatMul behind it")
            self._flattened[name] = before[1:]
        source, steps = self._activations.taken(node.input[0])
        target = self._activations.added(name, "float32" if steps is None else "int8", steps)
        self._reshape(f"{node.name}.shape", source, target, (-1, size))

    def _add(self, node: onnx.NodeProto) -> None:
        if any(name in self._constants for name in node.input):
            refuse(node, "a sum of two activations")
        activation, name = self._fuse(node)
        known = self._quantizes and all(self._activations.range_of(each) for each in (*node.input, name))
        kind = "int8" if known else "float32"
        found = [self._activations.taken(each, kind) for each in node.input]
        target, version = self._activations.added(name, kind), version_of(found[0][1])
        inputs = [index for index, _ in found]
        self._writer.operator("ADD", inputs, target, "AddOptions", version, fusedActivationFunction=activation)

    def _concat(self, node: onnx.NodeProto) -> None:
        if attributes_of(node).get("axis") != 1 or any(name in self._constants for name in node.input):
            refuse(node, "activations joined by channel")
        inputs = [self._activations.as_float(name) for name in node.input]  # INT8 would want one scale for all
        target = self._activations.added(node.output[0], "float32")
        last = len(self._activations.shape(node.output[0])) - 1
        self._writer.operator("CONCATENATION", inputs, target, "ConcatenationOptions", axis=last)

    def _pass(self, node: onnx.NodeProto) -> None:
        self._activations.rename(node.input[0], node.output[0])

    def _fuse(self, node: onnx.NodeProto) -> tuple[int, str]:
        """Return the activation that alone reads what ``node`` gives, and the name of what it gives then."""
        name = self._fused_name(node)
        if name == node.output[0]:
            return _PLAIN, name
        (follower,) = self._activations.readers[node.output[0]]
        self._fused.add(follower.name)
        return self._kind_of_activation(follower), name

    def _fused_name(self, node: onnx.NodeProto) -> str:
        readers = self._activations.readers.get(node.output[0], [])
        fuses = len(readers) == 1 and self._kind_of_activation(readers[0]) != _PLAIN
        return str((readers[0] if fuses else node).output[0])

    def _kind_of_activation(self, node: onnx.NodeProto) -> int:
        if node.op_type == "Relu":
            return _RELU
        limits = [self._constants.get(name) for name in node.input[1:3]] if node.op_type == "Clip" else []
        return _RELU6 if limits == [0, 6] else _PLAIN
