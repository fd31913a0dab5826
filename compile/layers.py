"""Where two forms of one network part: the output of each layer, eager, ONNX and typed ONNX, side by side.

Graphs run on onnxruntime's CPU provider without its optimizations, each Q/DQ pair as it stands: that is what a typed
graph says, for engines that do not run here too, and not what an engine makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.precision import Precision

from .export import eager_layers

if TYPE_CHECKING:
    import onnx

    from quillrt.runtime.bundle import Bundle
    from quillrt.train.checkpoint import Checkpoint

EAGER = "eager"
# Most error (see ``LayerError``) that a precision explains. Seen with networks of ours: FP32 in another order of sums
# 2e-6, TF32, which is not FP32, 1.3e-3, FP16 1e-3, INT8 0.03 to 0.05, FP8 0.07; a constant answer is 1. Not seen yet:
# BF16 rounds 8 times as coarsely as FP16 (8 bits of significand against 11).
TOLERANCES = {
    Precision.FP32: 1e-4,
    Precision.TF32: 1e-2,
    Precision.FP16: 1e-2,
    Precision.BF16: 8e-2,
    Precision.INT8: 0.2,
    Precision.FP8: 0.2,
    Precision.MIXED: 0.2,
}
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LayerError:
    """How one layer's output differs.

    Attributes:
        node: its name, that of its PyTorch module.
        op_type: its operator.
        error: root mean square of the difference, as a share of that of the reference's values.
        largest: largest difference.
    """

    node: str
    op_type: str
    error: float
    largest: float


def forms(bundle: Bundle) -> dict[str, bytes]:
    """Return the ONNX graphs of a bundle by what stands between ``model.`` and ``.onnx``, as ``int8.cpu``."""
    return {
        entry.path.removeprefix("model.").removesuffix(".onnx"): bundle.read(entry)
        for entry in bundle.entries
        if entry.kind == "onnx"
    }


def outputs_of(
    form: str, graphs: Mapping[str, bytes], checkpoint: Checkpoint | None, batch: NDArray[np.float32]
) -> Outputs:
    """Return the output of each layer of a form for ``batch``, by the node's name, in the order they are computed.

    Raises:
        ConfigError: there is no such form, or eager without a checkpoint.
        BackendUnavailable: onnxruntime lacks an operator in the form's precision.
    """
    known = [*graphs, *([EAGER] if checkpoint else [])]
    if form not in known:
        more = "" if checkpoint else "; eager needs --checkpoint"
        raise ConfigError(f"expected a form out of {', '.join(known)}, found {form}{more}")
    if checkpoint is not None and form == EAGER:
        return eager_layers(checkpoint, batch)
    import onnx

    return literal_outputs(onnx.load_from_string(graphs[form]), batch)


def literal_outputs(model: onnx.ModelProto, batch: NDArray[np.float32], wanted: Collection[str] = ()) -> Outputs:
    """Return what the nodes ``wanted`` of ``model``, or all, give that is a float, by their names.

    Raises:
        BackendUnavailable: onnxruntime lacks an operator in this precision.
    """
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {output.name for output in model.graph.output}
    names = {  # the first that is named: a GRU may give its last state alone
        node.name: next(filter(None, node.output))
        for node in model.graph.node
        if (not wanted or node.name in wanted) and any(node.output)
    }
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names.values() if name not in given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(watched.SerializeToString(), options, ["CPUExecutionProvider"])
        values = session.run(list(names.values()), {model.graph.input[0].name: batch})
    except Exception as error:  # onnxruntime's have no common base but this
        raise BackendUnavailable(
            f"onnxruntime cannot run the graph here: {' '.join(str(error).split())[:200]}"
        ) from error
    pairs = zip(names, values, strict=True)
    return {name: value.astype(np.float32) for name, value in pairs if np.issubdtype(value.dtype, np.floating)}


def compared(reference: Outputs, other: Outputs, op_types: Mapping[str, str]) -> tuple[LayerError, ...]:
    """Return the error of each layer that both have in the same shape, in the order of ``reference``."""
    found = []
    for name, expected in reference.items():
        values = other.get(name)
        if values is None or values.shape != expected.shape:
            continue
        difference = values.astype(np.float64) - expected
        scale = float(np.sqrt(np.square(expected, dtype=np.float64).mean())) or 1.0
        error = float(np.sqrt(np.square(difference).mean())) / scale
        largest = float(np.abs(difference).max())
        found.append(LayerError(name, op_types.get(name, ""), error, largest))
    return tuple(found)


def operators(graphs: Mapping[str, bytes]) -> dict[str, str]:
    """Return the operator of each node of the FP32 graph, by its name."""
    import onnx

    return {node.name: node.op_type for node in onnx.load_from_string(graphs["fp32"]).graph.node}


def tolerance_of(form: str) -> float:
    """Return the tolerance of a form's precision."""
    return TOLERANCES[Precision.FP32 if form == EAGER else Precision.parse(form.partition(".")[0])]


def first_beyond(errors: tuple[LayerError, ...], tolerance: float) -> LayerError | None:
    """Return the first layer whose error is beyond ``tolerance`` or not a number."""
    return next((each for each in errors if not each.error <= tolerance), None)


def parity(
    graphs: Mapping[str, bytes], checkpoint: Checkpoint | None, batch: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """Return how the logits of each form differ, literally, from eager (from FP32 without a checkpoint) and from FP32.

    Returns:
        For each form ``form``, ``n``, ``tolerance``, ``reason`` (why there are no figures; empty if there are), and by
        reference ``max``, ``mean`` (absolute differences of a logit), ``error`` (as of ``LayerError``), ``agreement``
        (share of the same answers).
    """
    exact = _logits(graphs["fp32"], batch)
    references = {"fp32": exact}
    if checkpoint is not None:
        from .export import eager_logits

        references[EAGER] = eager_logits(checkpoint, batch)
    found: list[dict[str, Any]] = []
    for form, graph in graphs.items():
        row: dict[str, Any] = {"form": form, "n": len(batch), "tolerance": tolerance_of(form), "reason": ""}
        try:
            logits = exact if form == "fp32" else _logits(graph, batch)
        except BackendUnavailable as error:
            found.append({**row, "reason": str(error)})
            continue
        found.append(
            {**row, **{name: _difference(logits, value) for name, value in references.items() if name != form}}
        )
    return found


def _logits(graph: bytes, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnx

    model = onnx.load_from_string(graph)
    last = next(node.name for node in model.graph.node if model.graph.output[0].name in node.output)
    return literal_outputs(model, batch, {last})[last]


def _difference(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> dict[str, float]:
    difference = np.abs(logits.astype(np.float64) - reference)
    scale = float(np.sqrt(np.square(reference, dtype=np.float64).mean())) or 1.0
    return {
        "max": float(difference.max()),
        "mean": float(difference.mean()),
        "error": float(np.sqrt(np.square(difference).mean())) / scale,
        "agreement": float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    }
