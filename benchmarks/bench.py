"""One benchmark from a bundle to a report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError, QuillError
from quillrt.runtime.files import write_text
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.spec import ModelSpec

from .comparing import REFERENCES, judged
from .contestants import Contestant, bundle_contestants, torch_contestants
from .environment import describe, ended
from .images import SYNTHETIC
from .moment import warnings
from .peaks import Peaks
from .peers import beside, peer_contestants
from .report import write_report
from .results import Result
from .roofline import work_of
from .rotation import plan, spread
from .running import Settings, measure
from .variants import by_batch, graphed, only, takes, tuned

_MOST_IMAGES = 2000


@dataclass(frozen=True)
class Rows:
    """Which rows a benchmark has.

    Attributes:
        backends: only these; all if none is named.
        options: options of their libraries, of the backends that take them.
        variants: options of which each makes one more row of the backends that take it; one has to.
        offered: the same, but none has to.
        cuda_graphs: one more row, with CUDA graphs, of each backend that makes them.
        images: at most so many are compared.
        peers: others' ways to measure, out of ``peers.PEERS``, beside the rows of their backends.
        on_gpu: rows on GPUs, and of the others those alone that they are compared with.
        roofline: measure the machine's peaks and place each row under them.
        preset: which preset chose all this, if one did.
    """

    backends: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    variants: Sequence[Mapping[str, str]] = ()
    offered: Sequence[Mapping[str, str]] = ()
    cuda_graphs: bool = False
    images: int = _MOST_IMAGES
    peers: Sequence[str] = ()
    on_gpu: bool = False
    roofline: bool = False
    preset: str | None = None


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
        ConfigError: no backend has such a name, or takes such an option.
        CheckpointError: there is no such file, or the bundle was not compiled from it.
        OSError: the folder cannot be written.
    """
    spec = bundle.manifest.model
    if rows.peers and settings.scenario == "server":
        raise ConfigError("expected no peer in the scenario server: peers run one query after the other; leave it out")
    contestants = entrants(bundle, checkpoint, rows, settings)
    if checkpoint is not None:
        check_checkpoint(bundle, checkpoint)
    chosen = images.take(spread(len(images), rows.images))
    tensors = network_input(chosen, spec)
    labels = chosen.labels if source != SYNTHETIC and chosen.classes == spec.labels else None
    write_text(folder / "log.txt", "")
    environment = describe()
    measured, baseline, winners = judged(measure(contestants, tensors, settings, folder / "log.txt", track, labels))
    peaks = Peaks(settings.device, folder / "log.txt", track)
    untold = None
    if rows.roofline:
        try:
            measured = peaks.over(measured, contestants, work_of(bundle), settings.threads)
        except QuillError as error:
            untold = f"no roofline: {error}"
    environment = ended(environment)
    doubts = [*warnings(environment, settings.threads), *([untold] if untold else [])]
    if labels is None:
        doubts.append(f"no accuracy: {source} has no labels out of {' '.join(spec.labels)}")
    result = Result(
        settings={
            **asdict(settings),
            "preset": rows.preset,
            "roofline": rows.roofline,
            "source": source,
            "images": len(tensors),
            "images_sha256": chosen.sha256(),
            "provider_options": dict(rows.options),
        },
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


def entrants(bundle: Bundle, checkpoint: Path | None, rows: Rows, settings: Settings) -> list[Contestant]:
    """Return who takes part.

    Raises:
        ConfigError: no backend or peer has such a name, or takes such an option.
        CheckpointError: there is no such checkpoint.
    """
    spec = bundle.manifest.model
    held = {Precision.FP32, *(entry.precision for entry in bundle.entries if entry.precision)}
    everyone = [*torch_contestants(spec, checkpoint, held), *bundle_contestants(bundle, rows.backends, settings.device)]
    chosen = only(everyone, rows.backends)
    offered = [variant for variant in rows.offered if any(takes(each.backend, variant) for each in chosen)]
    found = tuned(chosen, rows.options, [*offered, *rows.variants])
    if rows.cuda_graphs:
        found = graphed(found)
    if rows.on_gpu:
        found = [row for row in found if row.on_gpu or row.name in REFERENCES]
    found = by_batch(found, settings.batches)
    return [*found, *peer_contestants(rows.peers, found)]


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
