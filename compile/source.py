"""What can be compiled: a checkpoint of ours, or any ONNX image classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quillrt.calibration.collect import fingerprint
from quillrt.runtime.backends import open_session
from quillrt.runtime.errors import BundleError, ExportError, QuillError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, TensorSpec
from quillrt.runtime.versions import versions

from .batchnorm import fold_batch_norms
from .names import clean

if TYPE_CHECKING:
    import onnx

    from quillrt.train.checkpoint import Checkpoint

_OLDEST_OPSET = 13  # the first whose DequantizeLinear has one scale per channel


@dataclass(frozen=True)
class Source:
    """A model to compile.

    Attributes:
        graph: its FP32 ONNX graph, batch dimension dynamic.
        spec: what goes in and comes out.
        record: kind and sha256 of the file, and what is known of its training.
        checkpoint: the PyTorch side, where there is one.
    """

    graph: onnx.ModelProto
    spec: ModelSpec
    record: Mapping[str, Any]
    checkpoint: Checkpoint | None = None

    @property
    def sha256(self) -> str:
        """Of the graph: what a calibration table belongs to."""
        return fingerprint(self.graph)


def load_source(
    path: Path, labels: tuple[str, ...] | None = None, preprocessing: Preprocessing | None = None
) -> Source:
    """Load a checkpoint (``.safetensors``) or an ONNX file.

    Args:
        path: the file.
        labels: for an ONNX file: names of its classes, ``0`` to ``K-1`` by default.
        preprocessing: for an ONNX file: how images become its input; its size is taken from the graph.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        ExportError: no file, no ONNX, not one image input and one output of logits, or a fixed batch size.
    """
    if path.suffix == ".safetensors":
        from quillrt.train.checkpoint import load_checkpoint

        from .export import export_checkpoint

        if labels is not None or preprocessing is not None:
            raise ExportError(f"{path} carries its labels and preprocessing; they can be given for ONNX files only")
        checkpoint = load_checkpoint(path)
        record = {
            "kind": "checkpoint",
            "model": checkpoint.model,
            "training": checkpoint.training,
            "exporter": versions("torch", "onnxscript"),
            **_file(path),
        }
        source = Source(export_checkpoint(checkpoint), checkpoint.spec, record, checkpoint)
    else:
        graph = fold_batch_norms(clean(_without_flatten(_without_softmax(_dynamic_batch(_load_onnx(path))))))
        spec = _spec(graph, labels, preprocessing or Preprocessing())
        if spec.output.dtype != "float32" or not spec.labels:
            raise ExportError(
                f"expected an image classifier that gives float32 logits (N, K), but {path} gives {spec.output.dtype} "
                f"{spec.output.text()}; export it up to the logits"
            )
        source = Source(graph, spec, {"kind": "onnx", **_file(path)})
    _check(source, path)
    return source


def _file(path: Path) -> dict[str, str]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _load_onnx(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, format="protobuf")  # or it reads .json and .textproto as what they are called
        onnx.checker.check_model(model)
    except OSError as error:
        raise ExportError(f"expected a checkpoint or an ONNX file at {path}, but {error.strerror}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:  # the last of truncated external data
        message = " ".join(str(error).split())[:200]
        if path.suffix == ".quill":
            message = "is a bundle; give what it was compiled from"
        raise ExportError(
            f"expected a checkpoint (.safetensors) or a valid ONNX file, but {path}: {message}"
        ) from error
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        try:
            return onnx.version_converter.convert_version(model, _OLDEST_OPSET)
        except RuntimeError as error:
            raise ExportError(
                f"expected opset {_OLDEST_OPSET} or newer in {path}, found {opset}, and it cannot be converted: {error}"
            ) from error
    return model


def _dynamic_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Free the batch of an exporter's example from inputs, outputs and from the shapes that it reshapes to."""
    graph = model.graph
    _free_reshapes(model)
    constants = {t.name for t in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]  # old files list weights as inputs
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    for value in (*graph.input, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions:
            dimensions[0].dim_param = "batch"
    return model


def _free_reshapes(model: onnx.ModelProto) -> None:
    import onnx
    from onnx.helper import get_attribute_value
    from onnx.numpy_helper import from_array, to_array

    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info)
    }
    constants = {tensor.name: to_array(tensor) for tensor in graph.initializer if tensor.dims}
    constants |= {
        node.output[0]: to_array(get_attribute_value(node.attribute[0]))
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    for node in graph.node:
        if node.op_type != "Reshape":
            continue
        wanted, given = constants.get(node.input[1]), sizes.get(node.input[0])
        if wanted is not None and len(wanted) and 0 not in wanted and given and given[0] == wanted[0]:
            free = f"{node.output[0]}.shape"
            graph.initializer.append(from_array(np.array([0, *wanted[1:]], np.int64), free))  # 0: as it comes in
            node.input[1] = free
            del node.attribute[:]  # allowzero, the only one, makes 0 mean none


def _without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cut a final Softmax, so that the output is logits, as the runtime expects; it takes the softmax itself."""
    graph = model.graph
    while len(graph.output) == 1:
        last = next((n for n in graph.node if graph.output[0].name in n.output), None)
        if last is None or last.op_type not in ("Softmax", "Identity"):
            break
        maker = next((n for n in graph.node if last.input[0] in n.output), None)
        readers = [n for n in graph.node if last.input[0] in n.input]
        if maker is None or len(readers) > 1:
            break
        maker.output[list(maker.output).index(last.input[0])] = graph.output[0].name
        graph.node.remove(last)
        if last.op_type == "Softmax":
            break
    return model


def _without_flatten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write Flatten as the Reshape it is: onnxruntime moves quantization through the one, but not through the other."""
    from onnx.helper import get_attribute_value, make_node
    from onnx.numpy_helper import from_array

    for node in model.graph.node:
        axis = next((get_attribute_value(a) for a in node.attribute if a.name == "axis"), 1)
        if node.op_type == "Flatten" and axis == 1:
            shape = f"{node.output[0]}.shape"
            model.graph.initializer.append(from_array(np.array([0, -1], np.int64), shape))
            node.CopyFrom(make_node("Reshape", [node.input[0], shape], list(node.output), node.name or None))
    return model


def _spec(model: onnx.ModelProto, labels: tuple[str, ...] | None, preprocessing: Preprocessing) -> ModelSpec:
    graph = model.graph
    if not graph.output:
        raise ExportError("expected a classifier with one output, found an ONNX graph with none")
    inputs, outputs = (tuple(_tensor(value) for value in group) for group in (graph.input, graph.output))
    image = inputs[0].shape if inputs else ()
    if len(image) != 4 or image[2] is None or image[3] is None:
        raise ExportError(
            "expected one image input of shape (N, C, H, W) with fixed C, H and W, "
            f"found {', '.join(t.text() for t in inputs) or 'no input'}"
        )
    classes = outputs[0].shape[-1] if outputs[0].shape else None
    if labels is None and classes is not None:
        labels = tuple(str(k) for k in range(classes))
    try:
        return ModelSpec(inputs, outputs, labels or (), replace(preprocessing, height=image[2], width=image[3]))
    except QuillError as error:
        raise ExportError(f"expected an image classifier, but {error}") from error


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = value.type.tensor_type
    if not kind.elem_type:  # a sequence or a map, as scikit-learn's converters write
        raise ExportError(f"expected tensors in and out, but {value.name!r} is none; export the network's logits alone")
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return TensorSpec(value.name, np.dtype(tensor_dtype_to_np_dtype(kind.elem_type)).name, shape)


def _check(source: Source, path: Path) -> None:
    """Raise unless the graph is valid ONNX, takes batches of any size and answers logits."""
    import onnx

    try:
        onnx.checker.check_model(source.graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"expected a valid ONNX graph in {path}, but {_line(error)}; export it again") from error
    shape = [d or 0 for d in source.spec.input.shape[1:]]
    noise = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    classes = len(source.spec.labels)
    try:
        session = open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec)
    except BundleError as error:
        raise ExportError(
            f"expected operators that onnxruntime has, but {path}: {_line(error)}; export it without others"
        ) from error
    try:
        with session:
            one, three = session.run(noise[:1]), session.run(noise)
    except BundleError as error:
        raise ExportError(
            f"expected a graph that takes any batch size, but {path} fails with batch 1 or 3; "
            f"export it with a dynamic batch dimension ({_line(error)})"
        ) from error
    if (one.shape, three.shape) != ((1, classes), (3, classes)):
        raise ExportError(f"expected logits of shape (N, {classes}) from {path}, found {three.shape} for a batch of 3")
    if np.isfinite(three).all() and not np.allclose(one[0], three[0], rtol=1e-3, atol=1e-3 * np.abs(three).max()):
        raise ExportError(
            f"expected answers that do not depend on the other images of a batch, but those of {path} do; "
            "export the network in evaluation mode"
        )
    if not np.isfinite(three).all():
        raise ExportError(f"expected finite logits from {path}, found NaN or infinite ones; check its weights")
    if (three >= 0).all() and np.allclose(three.sum(axis=1), 1, atol=1e-3):
        raise ExportError(f"expected logits from {path}, found probabilities; export the network without its softmax")


def _line(error: Exception) -> str:
    """Return the error in one line of bearable length."""
    return " ".join(str(error).split())[:200]
