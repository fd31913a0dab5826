"""What the GPU check does besides measuring, each step to be called in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from quillrt.runtime.build_options import BuildOptions, Profile
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.cuda import PyCuda
from quillrt.runtime.cuda_python import CudaPython
from quillrt.runtime.errors import BackendUnavailable, BuildError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.spec import ModelSpec

from .bench import check_checkpoint
from .gpu_kernel import BLOCK, AddOne
from .images import choose_images

NEEDS = "needs the package"
DRIVERS = {layer.name: layer for layer in (PyCuda, CudaPython)}
_SEED = 0
_CALIBRATION_IMAGES = 512
# One image of MNIST's size, a batch of 64, and enough for the bus's full speed.
COPY_BYTES = (28 * 28 * 4, 64 * 28 * 28 * 4, 64 * 2**20)
COPY_TIMES = ("h2d_ms", "d2h_ms", "round_trip_ms", "h2d_gb_per_s", "d2h_gb_per_s")
GRAPH_TIMES = ("stream_ms", "graph_ms")
_TIMES = 100
_BLOCKS = 8
_KERNELS = 8  # launches in a query: enough for a graph to save some

File = tuple[Entry, bytes]


class Steps:
    """The steps; each returns what later steps need of it, and what the report tells of it as JSON values."""

    def images(self, data_root: Path | None) -> tuple[tuple[str, ImageSet, ImageSet], dict[str, Any]]:
        """Return MNIST's test images out of ``data_root``, or else the embedded digits, or else noise.

        Their name comes first, and images to calibrate on last.
        """
        dataset = "mnist" if data_root else None
        name, images = choose_images({}, dataset=dataset, data_root=data_root)
        _, training = choose_images({}, dataset=dataset, data_root=data_root, part="train")
        return (name, images, training), {"source": name, "images": len(images)}

    def network(self, checkpoint: Path) -> tuple[ModelSpec, dict[str, Any]]:
        """Return what goes into the network and comes out."""
        from quillrt.train.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        return loaded.spec, {"model": loaded.model, "training": loaded.training}

    def export(self, checkpoint: Path, onnx: Path) -> tuple[Path, dict[str, Any]]:
        """Write the checkpoint's FP32 ONNX graph."""
        from quillrt.compile.source import load_source

        onnx.write_bytes(load_source(checkpoint).graph.SerializeToString())
        return onnx, {"bytes": onnx.stat().st_size}

    def compiled(self, checkpoint: Path, onnx: Path) -> tuple[Path, dict[str, Any]]:
        """Write the FP32 ONNX graph of the bundle that lies beside the checkpoint, where it was compiled from that.

        Raises:
            BundleError: there is no such bundle.
            CheckpointError: it was compiled from another checkpoint.
        """
        bundle = Bundle.open(checkpoint.with_suffix(".quill"))
        check_checkpoint(bundle, checkpoint)
        graph = next(e for e in bundle.entries if e.kind == "onnx" and e.precision is Precision.FP32)
        onnx.write_bytes(bundle.read(graph))
        return onnx, {"bytes": graph.size}

    def graphs(self, onnx: Path, spec: ModelSpec, training: ImageSet, precision: Precision) -> tuple[list[File], Any]:
        """Return the graphs of one precision as a bundle would hold them."""
        from quillrt.calibration.collect import calibrate
        from quillrt.calibration.samples import draw_samples
        from quillrt.compile.config import CALIBRATED
        from quillrt.compile.graphs import typed_graphs
        from quillrt.compile.source import load_source

        source = load_source(onnx, spec.labels, spec.preprocessing)
        table = None
        if precision in CALIBRATED:
            samples = draw_samples(training, min(_CALIBRATION_IMAGES, len(training)), _SEED)
            table = calibrate(source.graph, source.spec, samples, "gpu check")
        files, _ = typed_graphs(source, (precision,), ("onnxruntime-cpu",), table)
        typed = [(entry, data) for entry, data in files if entry.precision is precision]
        return typed, {"graphs": [entry.path for entry, _ in typed]}

    def engine(
        self, graphs: Sequence[File], precision: Precision, family: str, batches: Sequence[int]
    ) -> tuple[list[File], dict[str, Any]]:
        """Return the engine that ``family`` builds in ``precision``, with kernels of their own for each of ``batches``.

        The report gets its kernels' datatypes; TF32 is the FP32 graph, whose products may round.
        """
        from quillrt.compile.engines import build_engines

        tf32 = precision is Precision.TF32
        options = BuildOptions(profiles=tuple(Profile((b,), (b,), (b,)) for b in batches), tf32=tf32)
        typed = Precision.FP32 if tf32 else precision
        files, layers = build_engines(graphs, (typed,), (family,), options=options)
        if not files:
            raise BuildError(f"expected a graph typed for {family}, found none")
        datatypes = [layer["datatype"] for kernels in layers.values() for layer in kernels]
        return files, {"bytes": [entry.size for entry, _ in files], "kernels": dict(Counter(datatypes))}

    def copies(self, driver: str) -> tuple[None, list[dict[str, Any]]]:
        """Copy random bytes to the GPU and back by ``driver``, page-locked; the report gets the times by size.

        Raises:
            BackendUnavailable: the driver, its package or the GPU is missing, or the bytes came back changed.
        """
        return None, _on_gpu(driver, lambda cuda: [_copy(cuda, size) for size in COPY_BYTES])

    def graph(self, driver: str) -> tuple[None, dict[str, Any]]:
        """Run small kernels on a stream of ``driver``, then as a CUDA graph; the report gets the time of both.

        Raises:
            BackendUnavailable: as ``copies``, or a graph computed something else.
        """
        return None, _on_gpu(driver, _graph)


def _on_gpu(driver: str, work: Callable[[PyCuda | CudaPython], Any]) -> Any:
    """Return what ``work`` does with the first GPU by ``driver``."""
    try:
        cuda = DRIVERS[driver](0)
    except ImportError as error:
        raise BackendUnavailable(f"{NEEDS} {driver}: {error}") from error
    try:
        with cuda.current():
            return work(cuda)
    finally:
        cuda.close()


def _copy(cuda: PyCuda | CudaPython, size: int) -> dict[str, Any]:
    """Return median times in ms of copies of ``size`` bytes: each way by events, both ways as the host sees it."""
    sent, received = cuda.pinned((size,), np.uint8), cuda.pinned((size,), np.uint8)
    sent[:] = np.random.default_rng(_SEED).integers(0, 256, size, np.uint8)
    address, stream = cuda.device_buffer(size), cuda.new_stream()
    start, between, end = (cuda.new_event() for _ in range(3))
    times = []
    for _ in range(_TIMES):
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
    return {"bytes": size, "n": _TIMES, **dict(zip(COPY_TIMES, figures, strict=True))}


def _graph(cuda: PyCuda | CudaPython) -> dict[str, Any]:
    """Return median times in ms, as the host sees them, of copies and kernels given singly and as one graph."""
    kernel, count = AddOne(), _BLOCKS * BLOCK
    sent, received = cuda.pinned((count,), np.float32), cuda.pinned((count,), np.float32)
    address, stream = cuda.device_buffer(sent.nbytes), cuda.new_stream()

    def enqueue() -> None:
        cuda.copy_in(address, sent, stream)
        for _ in range(_KERNELS):
            kernel.launch(address, _BLOCKS, stream)
        cuda.copy_out(received, address, stream)

    enqueue()  # the driver may load the kernel at its first launch, which a capture would forbid
    cuda.synchronize(stream)
    graph = cuda.capture(stream, enqueue)

    def milliseconds(submit: Callable[[], None]) -> float:
        times = []
        for turn in range(_TIMES):
            sent[:] = np.arange(turn, turn + count)
            begin = perf_counter_ns()
            submit()
            cuda.synchronize(stream)
            times.append((perf_counter_ns() - begin) / 1e6)
            if not np.array_equal(received, sent + _KERNELS):
                raise BackendUnavailable(f"kernels on a stream of {cuda.name} computed something else")
        return median(times)

    figures = (milliseconds(enqueue), milliseconds(lambda: cuda.launch(graph, stream)))
    kernel.close()
    return {"kernels": _KERNELS, "n": _TIMES, **dict(zip(GRAPH_TIMES, figures, strict=True))}
