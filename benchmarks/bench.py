"""One benchmark from a bundle to a report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.device import cores
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError, QuillError
from quillrt.runtime.files import write_text
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import ModelSpec

from .comparing import judged
from .entrants import Rows, entrants
from .environment import describe, ended
from .images import SYNTHETIC
from .moment import warnings
from .peaks import Peaks
from .peers import beside
from .report import write_report
from .resized import check_resizable, resized_rows
from .results import Result, Row
from .roofline import work_of
from .rotation import plan, spread
from .running import Settings, measure
from .sweeps import SIZES, check_sweeps, threaded, to_the_knee, with_knees


def bench(
    bundle: Bundle,
    checkpoint: Path | None,
    images: ImageSet,
    source: str,
    settings: Settings,
    folder: Path,
    rows: Rows = Rows(),
    track: Track = no_progress,
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Measure all that ``bundle`` holds, and PyTorch if there is a ``checkpoint``; write the report into ``folder``.

    Args:
        bundle: what to measure.
        checkpoint: what it was compiled from, for PyTorch's rows.
        images: what to run.
        source: what they are called in the report.
        settings: how to measure.
        folder: gets result.json, result.md, latency.png and log.txt, which holds what the libraries printed.
        rows: which rows.
        track: shows progress.
        say: is told in a line why there is no plot.

    Raises:
        ConfigError: no backend or sweep has such a name, or takes such an option, or a sweep lacks a checkpoint.
        CheckpointError: there is no such file, or the bundle was not compiled from it.
        BackendUnavailable: the sweep of sizes lacks a package.
        OSError: the folder cannot be written.
    """
    spec = bundle.manifest.model
    if rows.peers and settings.scenario == "server":
        raise ConfigError("expected no peer in the scenario server: peers run one query after the other; leave it out")
    check_sweeps(rows.sweeps, settings.scenario)
    if "size" in rows.sweeps:
        check_resizable(checkpoint)
    contestants = entrants(bundle, checkpoint, rows, settings)
    if "threads" in rows.sweeps:
        contestants = threaded(contestants, settings.threads, cores())
    if checkpoint is not None:
        check_checkpoint(bundle, checkpoint)
    chosen = images.take(spread(len(images), rows.images))
    tensors = network_input(chosen, spec)
    labels = chosen.labels if source != SYNTHETIC and chosen.classes == spec.labels else None
    log = folder / "log.txt"
    write_text(log, "")

    def at(batch: int) -> tuple[Row, ...]:
        alone = replace(settings, batches=(batch,))
        return measure(entrants(bundle, checkpoint, rows, alone), tensors, alone, log, track, labels)

    environment = describe()
    found = measure(contestants, tensors, settings, log, track, labels)
    if "batch" in rows.sweeps:
        found = with_knees(to_the_knee(found, at))
    measured, baseline, winners = judged(found)
    peaks, missing = Peaks(settings.device, log, track), []
    if rows.roofline:
        try:
            measured = peaks.over(measured, contestants, work_of(bundle), settings.threads)
        except QuillError as error:
            missing.append(f"no roofline: {error}")
    if "size" in rows.sweeps and checkpoint is not None:
        for size in SIZES:
            try:
                measured += resized_rows(checkpoint, size, rows, settings, log, track, peaks if rows.roofline else None)
            except QuillError as error:
                missing.append(f"no rows of {size} x {size} pixels: {error}")
    environment = ended(environment)
    doubts = [*warnings(environment, settings.threads), *missing]
    if labels is None:
        doubts.append(f"no accuracy: {source} has no labels out of {' '.join(spec.labels)}")
    result = Result(
        settings={**asdict(settings), **_made_of(rows, chosen, source)},
        environment=environment,
        rows=measured,
        rotation=plan(tensors, source),
        baseline=baseline,
        winners=winners,
        beside=beside(measured),
        warnings=tuple(doubts),
        model={"name": bundle.path.name, "sha256": bundle.sha256},
        peaks=tuple(peaks.measured.values()),
    )
    try:
        write_report(result, folder, f"Latency of {bundle.path.name}")
    except BackendUnavailable as error:  # the figures are written
        (folder / "latency.png").unlink(missing_ok=True)  # an older run's would pass for this one's
        say(f"no plot: {error}")
    return result


def _made_of(rows: Rows, images: ImageSet, source: str) -> dict[str, Any]:
    """Return what the rows were made of, as a result says it beside its ``Settings``."""
    return {
        "preset": rows.preset,
        "roofline": rows.roofline,
        "sweeps": list(rows.sweeps),
        "source": source,
        "images": len(images),
        "images_sha256": images.sha256(),
        "provider_options": dict(rows.options),
    }


def check_checkpoint(bundle: Bundle, path: Path) -> None:
    """Raise unless ``bundle`` was compiled from the checkpoint at ``path``, as far as can be told.

    A bundle from an ONNX file does not say which checkpoint that came from: then labels and input have to fit.

    Raises:
        CheckpointError: it was not, or it cannot be read.
    """
    source = bundle.manifest.source
    if source.get("kind") == "checkpoint":
        expected, found = str(source.get("sha256")), hashlib.sha256(path.read_bytes()).hexdigest()
        if expected != found:
            raise CheckpointError(
                f"expected the checkpoint that {bundle.path} was compiled from, sha256 {expected[:12]}…, "
                f"found {path}, sha256 {found[:12]}…; give that one or compile again"
            )
    elif find_spec("torch"):  # where it is missing, PyTorch's rows say so
        from quillrt.train.checkpoint import load_checkpoint

        wanted, spec = bundle.manifest.model, load_checkpoint(path).spec
        if (spec.labels, spec.input.shape) != (wanted.labels, wanted.input.shape):
            raise CheckpointError(
                f"expected a checkpoint with {bundle.path}'s labels and input {wanted.input.text()}, "
                f"found {path} with input {spec.input.text()} and labels {' '.join(spec.labels)}; give another one"
            )


def network_input(images: ImageSet, spec: ModelSpec) -> NDArray[np.float32]:
    """Return ``images`` as network input float32 (N, C, H, W)."""
    recipe = spec.preprocessing
    return normalize(fit_images(images, recipe), recipe, spec.channels)
