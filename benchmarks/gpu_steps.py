"""What the GPU check does besides measuring, each step to be called in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from quillrt.runtime.cuda import PyCuda
from quillrt.runtime.cuda_python import CudaPython
from quillrt.runtime.errors import BackendUnavailable, BuildError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, character_spec

from .images import choose_images

DRIVERS = {layer.name: layer for layer in (PyCuda, CudaPython)}
_SEED = 0
_CALIBRATION_IMAGES = 64
# One image of MNIST's size, a batch of 64, and enough for the bus's full speed.
COPY_BYTES = (28 * 28 * 4, 64 * 28 * 28 * 4, 64 * 2**20)
COPY_TIMES = ("h2d_ms", "d2h_ms", "round_trip_ms", "h2d_gb_per_s", "d2h_gb_per_s")
_COPIES = 100

File = tuple[Entry, bytes]


class Steps:
    """The steps; each returns what later steps need of it, and what the report tells of it as JSON values."""

    def images(self) -> tuple[tuple[str, ImageSet], dict[str, Any]]:
        """Return scikit-learn's handwritten digits, or synthetic images where it is missing, with their name."""
        name, images = choose_images({})
        return (name, images), {"source": name, "images": len(images)}

    def network(self, images: ImageSet, path: Path) -> tuple[ModelSpec, dict[str, Any]]:
        """Write a checkpoint of the network `cnn` with seeded weights, untrained, and return its spec."""
        import torch

        from quillrt.train.checkpoint import Checkpoint, save_checkpoint
        from quillrt.train.models import build_model

        torch.manual_seed(_SEED)
        grey = images.images / 255
        recipe = Preprocessing(mean=round(float(grey.mean()), 4), std=round(float(grey.std()), 4))
        spec = character_spec(images.classes, recipe)
        save_checkpoint(path, Checkpoint.of("cnn", spec, build_model("cnn", len(images.classes)).state_dict(), {}))
        return spec, {"model": "cnn", "seed": _SEED}

    def export(self, checkpoint: Path, onnx: Path) -> tuple[None, dict[str, Any]]:
        """Write the checkpoint's FP32 ONNX graph."""
        from quillrt.compile.source import load_source

        onnx.write_bytes(load_source(checkpoint).graph.SerializeToString())
        return None, {"bytes": onnx.stat().st_size}

    def graphs(self, onnx: Path, spec: ModelSpec, images: ImageSet, precision: Precision) -> tuple[list[File], Any]:
        """Return the graphs of one precision as a bundle would hold them."""
        from quillrt.calibration.collect import calibrate
        from quillrt.compile.graphs import typed_graphs
        from quillrt.compile.source import load_source

        source = load_source(onnx, spec.labels, spec.preprocessing)
        table = None
        if precision is Precision.INT8:
            samples = images.take(np.arange(_CALIBRATION_IMAGES))
            table = calibrate(source.graph, source.spec, samples, "gpu check")
        files, _ = typed_graphs(source, (precision,), ("onnxruntime-cpu",), table)
        typed = [(entry, data) for entry, data in files if entry.precision is precision]
        return typed, {"graphs": [entry.path for entry, _ in typed]}

    def engine(self, graphs: Sequence[File], precision: Precision, family: str) -> tuple[list[File], dict[str, Any]]:
        """Return the engine that ``family`` builds in ``precision``; the report gets its kernels' datatypes."""
        from quillrt.compile.engines import build_engines

        files, layers = build_engines(graphs, (precision,), (family,))
        if not files:
            raise BuildError(f"expected a graph typed for {family}, found none")
        datatypes = [layer["datatype"] for kernels in layers.values() for layer in kernels]
        return files, {"bytes": [entry.size for entry, _ in files], "kernels": dict(Counter(datatypes))}

    def copies(self, driver: str) -> tuple[None, list[dict[str, Any]]]:
        """Copy random bytes to the GPU and back by ``driver``, page-locked; the report gets the times by size.

        Raises:
            BackendUnavailable: the driver, its package or the GPU is missing, or the bytes came back changed.
        """
        try:
            cuda = DRIVERS[driver](0)
        except ImportError as error:
            raise BackendUnavailable(f"needs the package {driver}: {error}") from error
        try:
            with cuda.current():
                return None, [_copy(cuda, size) for size in COPY_BYTES]
        finally:
            cuda.close()


def _copy(cuda: PyCuda | CudaPython, size: int) -> dict[str, Any]:
    """Return median times in ms of copies of ``size`` bytes: each way by events, both ways as the host sees it."""
    sent, received = cuda.pinned((size,), np.uint8), cuda.pinned((size,), np.uint8)
    sent[:] = np.random.default_rng(_SEED).integers(0, 256, size, np.uint8)
    address, stream = cuda.device_buffer(size), cuda.new_stream()
    start, between, end = (cuda.new_event() for _ in range(3))
    times = []
    for _ in range(_COPIES):
        begin = perf_counter_ns()
        cuda.record(start, stream)
        cuda.copy_in(address, sent, stream)
        cuda.record(between, stream)
        cuda.copy_out(received, address, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
        host = (perf_counter_ns() - begin) / 1e6
        times.append((cuda.elapsed_ms(start, between), cuda.elapsed_ms(between, end), host))
    if not np.array_equal(sent, received):
        raise BackendUnavailable(f"{size} bytes came back changed from the GPU by {cuda.name}")
    h2d, d2h, host = (median(column) for column in zip(*times, strict=True))
    figures = (h2d, d2h, host, size / h2d / 1e6, size / d2h / 1e6)
    return {"bytes": size, "n": _COPIES, **dict(zip(COPY_TIMES, figures, strict=True))}
