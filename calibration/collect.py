"""Ranges of activations, collected by onnxruntime's calibrators one batch at a time."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.versions import versions

from .samples import sample_hashes
from .table import CalibrationTable

if TYPE_CHECKING:
    import onnx

METHODS = ("minmax", "entropy", "percentile")
# As in TensorRT's entropy calibration (S. Migacz, "8-bit Inference with TensorRT", GTC 2017): 2048 bins, 128 levels.
_BINS, _LEVELS = 2048, 128
_BATCH = 32


def calibrate(
    model: onnx.ModelProto,
    spec: ModelSpec,
    samples: ImageSet,
    dataset: str,
    method: str = "minmax",
    percentile: float = 99.999,
    track: Track = no_progress,
) -> CalibrationTable:
    """Run ``model`` on ``samples`` and return the ranges around every operator that INT8 may compute.

    Args:
        model: the FP32 graph.
        spec: its input and preprocessing.
        samples: images from the training part, fitted or as they came.
        dataset: name of their data set, for the record.
        method: ``minmax``, ``entropy`` (least Kullback-Leibler divergence) or ``percentile``.
        percentile: for ``percentile``: the share of values kept, 50 < percentile <= 100.
        track: shows progress.

    Raises:
        CalibrationError: unknown method, percentile out of its range, or a graph without operators to quantize.
        SpecError: another recipe than the spec's fitted the samples.
    """
    if method not in METHODS:
        raise CalibrationError(f"expected a method out of {', '.join(METHODS)}, found {method!r}")
    if not 50 < percentile <= 100:
        raise CalibrationError(f"expected a percentile above 50 and up to 100, found {percentile}")
    fitted = fit_images(samples, spec.preprocessing)
    data = model.SerializeToString(deterministic=True)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # the calibrators print what they do
        calibrator = _calibrator(data, Path(folder), method, percentile)
        starts = range(0, len(samples), _BATCH)
        for start in track(starts, "calibrating", len(starts)):
            images = fitted[start : start + _BATCH]
            calibrator.collect_data(_One(spec.input.name, normalize(images, spec.preprocessing, spec.channels)))
        collected = calibrator.compute_data().data
    return CalibrationTable(
        method=method,
        percentile=percentile if method == "percentile" else None,
        ranges={name: _range(collected[name].range_value) for name in sorted(collected)},
        samples=sample_hashes(samples),
        dataset=dataset,
        model_sha256=hashlib.sha256(data).hexdigest(),
        preprocessing=spec.preprocessing,
        tools=versions("quillrt", "onnxruntime"),
    )


def _calibrator(model: bytes, folder: Path, method: str, percentile: float) -> Any:
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    onnxruntime.set_default_logger_severity(3)  # the calibrators' sessions would warn of what they do not use
    (folder / "model.onnx").write_bytes(model)
    kinds = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "entropy": (CalibrationMethod.Entropy, {"num_bins": _BINS, "num_quantized_bins": _LEVELS}),
        "percentile": (CalibrationMethod.Percentile, {"num_bins": _BINS, "percentile": percentile}),
    }
    kind, settings = kinds[method]
    return create_calibrator(
        folder / "model.onnx",
        op_types_to_calibrate=["Conv", "Gemm", "MatMul"],
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=kind,
        providers=["CPUExecutionProvider"],
        extra_options=settings,
    )


def _range(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> tuple[float, float]:
    low, high = (float(np.asarray(value).reshape(())) for value in pair)
    return low, high


class _One:
    """A reader of one batch, which is how onnxruntime's calibrators are fed without keeping all activations."""

    def __init__(self, name: str, batch: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = iter([{name: batch}])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)
