"""The same network for images of another size, with weights as they were initialised: for its speed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, ConfigError, ExportError
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import character_spec

from .entrants import Rows, entrants
from .peaks import Peaks
from .results import Row
from .roofline import work_of
from .running import Settings, measure

_SAMPLES = 64  # that calibrate: the ranges are of no matter
_IMAGES = 256  # that queries rotate through, with their copies
_PRECISIONS = (Precision.FP32, Precision.INT8)
_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime")
WHY = "weights as initialised, calibrated on noise: only speed is compared"


def check_resizable(checkpoint: Path | None) -> None:
    """Raise unless there is a checkpoint, and what makes its network anew, before anything is measured.

    Raises:
        ConfigError: there is no checkpoint.
        BackendUnavailable: a package is missing.
    """
    if checkpoint is None:
        raise ConfigError("expected a checkpoint, whose network the sweep size makes anew, found none; give one")
    if absent := [package for package in _PACKAGES if find_spec(package) is None]:
        raise BackendUnavailable(f"the sweep size needs {', '.join(absent)}: pip install 'quillrt[train,compile]'")


def resized_rows(
    checkpoint: Path,
    size: int,
    rows: Rows,
    settings: Settings,
    log: Path,
    track: Track = no_progress,
    peaks: Peaks | None = None,
) -> tuple[Row, ...]:
    """Measure the checkpoint's network for images of ``size`` x ``size``; nothing is said of its answers.

    Backends that need an engine built for a GPU take no part, nor do variants and peers.

    Args:
        checkpoint: whose network.
        size: pixels a side.
        rows: which backends.
        settings: how to measure.
        log: gets what the libraries print.
        track: shows progress.
        peaks: place the rows under them.

    Raises:
        CheckpointError: it cannot be read.
        ExportError: torch's exporter refuses the network.
        SpecError: the network cannot be made for such images.
    """
    plain = replace(rows, variants=(), offered=(), peers=(), cuda_graphs=False)
    with resized(checkpoint, size) as (bundle, fresh):
        able = [each for each in entrants(bundle, fresh, plain, settings) if each.reason is None]
        contestants = [replace(each, image_size=size) for each in able]
        spec = bundle.manifest.model
        noise = np.random.default_rng(0).normal(size=(_IMAGES, spec.channels, size, size)).astype(np.float32)
        found = measure(contestants, noise, settings, log, track)
        if peaks is not None:
            found = peaks.over(found, contestants, work_of(bundle), settings.threads)
    return tuple(_of_speed_alone(row) for row in found)


@contextmanager
def resized(checkpoint: Path, size: int) -> Iterator[tuple[Bundle, Path]]:
    """Give a bundle and a checkpoint of the same network for ``size`` x ``size`` pixels; the latter is removed after.

    The bundle holds the graphs in FP32 and INT8 that compiling makes, and LiteRT's files where it takes the network.

    Raises:
        CheckpointError: it cannot be read.
        ExportError: torch's exporter refuses the network.
        SpecError: the network cannot be made for such images.
    """
    from quillrt.compile.attest import attest_graphs
    from quillrt.compile.config import CompileConfig
    from quillrt.compile.graphs import LITERT, typed_graphs
    from quillrt.compile.ranges import calibrate_source
    from quillrt.compile.source import load_source
    from quillrt.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from quillrt.train.models import build_model
    from quillrt.train.seeding import seeded

    trained = load_checkpoint(checkpoint)
    spec = character_spec(trained.spec.labels, Preprocessing(height=size, width=size))
    with seeded(0):
        network = build_model(trained.model, len(spec.labels), size, size)
    with TemporaryDirectory(prefix="quillrt-bench-") as folder:
        fresh = Path(folder) / f"{size}.safetensors"
        save_checkpoint(fresh, Checkpoint.of(trained.model, spec, network.state_dict(), {}))
        source = load_source(fresh)
        config = CompileConfig(precisions=_PRECISIONS, random_data=True, samples=_SAMPLES)
        table = calibrate_source(source, None, config)
        try:
            files, _ = typed_graphs(source, _PRECISIONS, (*config.targets, LITERT), table)
        except ExportError:
            files, _ = typed_graphs(source, _PRECISIONS, config.targets, table)
        files, _ = attest_graphs(files, spec, (), 0.0)
        manifest = Manifest(spec, source.record, tuple(entry for entry, _ in files))
        yield Bundle(fresh.with_suffix(".quill"), manifest, {entry.path: data for entry, data in files}, ""), fresh


def _of_speed_alone(row: Row) -> Row:
    if row.measured is None:
        return replace(row, verdict="not run", why=row.reason or "")
    return replace(row, measured=replace(row.measured, agreement=None, accuracy=None), why=WHY)
