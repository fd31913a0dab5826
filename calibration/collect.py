"""The values of activations on real samples, and from them a table of ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.versions import versions

from .histogram import Histogram
from .methods import Method
from .samples import sample_hashes
from .table import CalibrationTable, Observed

if TYPE_CHECKING:
    import onnx

_AROUND = ("Conv", "Gemm", "MatMul")  # what INT8 may compute
_FOLLOWS = ("Relu", "Clip")  # what engines compute in one kernel with it
_BATCH = 32
_SUMMARY_BINS = 16


def collect(
    model: onnx.ModelProto, spec: ModelSpec, samples: ImageSet, track: Track = no_progress
) -> dict[str, Histogram]:
    """Run ``model`` on ``samples`` and return the values before and after every operator that INT8 may compute.

    All methods find their ranges in what one pass counts, and what is kept does not grow with the number of samples.

    Args:
        model: the FP32 graph.
        spec: its input and preprocessing.
        samples: images from the training part, fitted or as they came.
        track: shows progress.

    Raises:
        CalibrationError: a graph without such operators, or values that are not finite.
        SpecError: another recipe than the spec's fitted the samples.
    """
    import onnx
    import onnxruntime

    wanted, image = activations(model), spec.input.name
    if not wanted:
        raise CalibrationError(f"expected operators out of {', '.join(_AROUND)} in the graph, found none to calibrate")
    names = sorted(wanted - {image})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {output.name for output in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = {name: Histogram() for name in sorted(wanted)}
    fitted = fit_images(samples, spec.preprocessing)
    starts = range(0, len(samples), _BATCH)
    for start in track(starts, "calibrating", len(starts)):
        batch = normalize(fitted[start : start + _BATCH], spec.preprocessing, spec.channels)
        values = {image: batch, **dict(zip(names, session.run(names, {image: batch}), strict=True))}
        for name, histogram in found.items():
            try:
                histogram.add(values[name])
            except CalibrationError as error:
                raise CalibrationError(
                    f"{error} in {name} for images {start} to {start + len(batch) - 1}; "
                    "check the weights and the preprocessing"
                ) from error
    return found


def activations(model: onnx.ModelProto) -> set[str]:
    """Return the names of the tensors before and after each operator that INT8 may compute, and after its ReLU."""
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in _AROUND]
    around = {name for node in nodes for name in (*node.input[:2], *node.output)} - constants
    results = {name for node in nodes for name in node.output}
    followers = [node for node in model.graph.node if node.op_type in _FOLLOWS and node.input[0] in results]
    return around | {name for node in followers for name in node.output}


def fingerprint(model: onnx.ModelProto) -> str:
    """Return the sha256 of the graph and its weights, by which a table knows its model."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def tabulate(
    histograms: Mapping[str, Histogram],
    model: onnx.ModelProto,
    spec: ModelSpec,
    samples: ImageSet,
    dataset: str,
    method: Method,
) -> CalibrationTable:
    """Return the table of the ranges that ``method`` finds in ``histograms``, collected with the other arguments."""
    return CalibrationTable(
        method=method.name,
        percentile=method.percentile if method.name == "percentile" else None,
        ranges={name: method.range_of(histogram) for name, histogram in histograms.items()},
        observed={
            name: Observed(histogram.low, histogram.high, histogram.summary(_SUMMARY_BINS))
            for name, histogram in histograms.items()
        },
        samples=sample_hashes(samples),
        dataset=dataset,
        model_sha256=fingerprint(model),
        preprocessing=spec.preprocessing,
        tools=versions("quillrt", "onnxruntime"),
    )


def calibrate(
    model: onnx.ModelProto,
    spec: ModelSpec,
    samples: ImageSet,
    dataset: str,
    method: Method | None = None,
    track: Track = no_progress,
) -> CalibrationTable:
    """Return the ranges of ``model``'s activations on ``samples``: ``collect``, then ``tabulate``.

    Args:
        model: the FP32 graph.
        spec: its input and preprocessing.
        samples: images from the training part, fitted or as they came.
        dataset: name of their data set, for the record.
        method: how ranges are found; ``None`` for the extremes.
        track: shows progress.

    Raises:
        CalibrationError: see ``collect``.
        SpecError: another recipe than the spec's fitted the samples.
    """
    return tabulate(collect(model, spec, samples, track), model, spec, samples, dataset, method or Method())
