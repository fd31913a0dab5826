"""Quantization-aware training's side of compiling: which ranges it starts from, and those it ended with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quillrt.calibration.collect import collect
from quillrt.calibration.methods import Method
from quillrt.calibration.samples import draw_samples
from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.errors import CheckpointError
from quillrt.runtime.imageset import ImageSet

from .export import export_checkpoint
from .graphs import recipe_for
from .macs import MULTIPLYING
from .source import Source

if TYPE_CHECKING:
    import onnx

    from quillrt.train.checkpoint import Checkpoint
    from quillrt.train.quantization import Steps

_SAMPLES = 512


def input_steps(
    checkpoint: Checkpoint, training: ImageSet, method: Method, target: str, seed: int = 0
) -> dict[str, Steps]:
    """Return how INT8 for ``target`` would round the input of each convolution and product, by the node's name.

    Raises:
        CalibrationError: see ``draw_samples`` and ``collect``.
        ConfigError: no target has this name.
        ExportError: torch's exporter refuses the network.
    """
    from quillrt.train.quantization import Steps

    kind = recipe_for(target).activations
    graph = export_checkpoint(checkpoint)
    samples = draw_samples(training, min(_SAMPLES, len(training)), seed)
    counts = collect(graph, checkpoint.spec, samples)
    return {name: Steps(*method.range_of(counts[tensor]), kind) for name, tensor in _inputs(graph).items()}


def as_trained(table: CalibrationTable, source: Source) -> CalibrationTable:
    """Return ``table`` with the ranges that ``source`` was trained with, where it was trained for INT8.

    Raises:
        CheckpointError: the checkpoint's record of them is malformed.
    """
    record = source.checkpoint.training.get("qat", {}) if source.checkpoint else {}
    inputs = _inputs(source.graph)
    try:
        trained = {
            inputs[name]: (float(each["low"]), float(each["high"])) for name, each in record.items() if name in inputs
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            "expected the ranges that the checkpoint was trained for, found none; train it again"
        ) from error
    return replace(table, ranges={**table.ranges, **trained}, trained=tuple(sorted(trained)))


def _inputs(graph: onnx.ModelProto) -> dict[str, str]:
    """Return what each convolution and product reads, by name."""
    return {node.name: node.input[0] for node in graph.graph.node if node.op_type in MULTIPLYING}
