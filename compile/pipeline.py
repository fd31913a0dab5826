"""From a source to a bundle: type the graph for each precision, build engines, check all, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quillrt.calibration.collect import collect, tabulate
from quillrt.calibration.methods import Method
from quillrt.calibration.samples import draw_samples, random_samples
from quillrt.calibration.table import RANDOM_DATA, CalibrationTable
from quillrt.runtime.backends import CPU_BACKENDS, open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import AccuracyError, CalibrationError, ConfigError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.manifest import Entry, Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.tensorrt_api import FAMILIES
from quillrt.runtime.versions import versions
from quillrt.train.evaluation import check_labels

from .bundle_writer import entry_for, write_bundle
from .engines import LEAST_SHARE, build_engines
from .graphs import CALIBRATED, DEFAULT_PRECISIONS, PRECISIONS, typed_graphs
from .search import METHODS, Search, search
from .source import Source
from .verify import Verdict, verify

TARGETS = (*CPU_BACKENDS, *FAMILIES)
_SAMPLES = 512  # ranges of small networks settle within a few hundred images
_EAGER_IMAGES = 256
_EAGER_TOLERANCE = 1e-4  # of the largest logit: FP32 sums in another order


@dataclass(frozen=True)
class CompileConfig:
    """What to make.

    Attributes:
        precisions: out of ``PRECISIONS``; FP32 is always made, as the reference.
        targets: out of ``TARGETS``: which INT8 graphs and which engines.
        method: how ranges are found if no table is given.
        samples: how many images calibrate; ``None``: 512, or all there are.
        random_data: calibrate on noise instead of training images; the bundle says so for ever.
        excluded: names of nodes that INT8 leaves in FP32.
        max_drop: points of accuracy that INT8 may lose on the validation part; ``None`` for no more than chance allows.
            Where it loses more, other methods are tried, then more nodes excluded.
        allow_fallback: take engines that compute in another precision than was asked for.
        seed: of the draw of those images.
    """

    precisions: tuple[Precision, ...] = DEFAULT_PRECISIONS
    targets: tuple[str, ...] = ("onnxruntime-cpu",)
    method: Method = field(default_factory=Method)
    samples: int | None = None
    random_data: bool = False
    excluded: tuple[str, ...] = ()
    max_drop: float | None = None
    allow_fallback: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for found, known, what in (
            (self.precisions, PRECISIONS, "precision"),
            (self.targets, TARGETS, "target"),
        ):
            strange = [getattr(f, "value", f) for f in found if f not in known]
            if strange:
                names = ", ".join(getattr(k, "value", k) for k in known)
                raise ConfigError(f"expected a {what} out of {names}, found {', '.join(strange)}")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise ConfigError(f"expected --max-drop of 0 to 100 points, found {self.max_drop}; give 0.1 if in doubt")


@dataclass(frozen=True)
class Images:
    """What compiling needs of a data set: ``training`` calibrates, ``validation`` judges; test stays unseen."""

    dataset: str
    training: ImageSet
    validation: ImageSet


class Compiled(NamedTuple):
    """What compiling gives: the bundle, how each file in it did, and what was searched if there was a gate."""

    bundle: Bundle
    verdicts: tuple[Verdict, ...]
    search: Search | None


def calibrate_source(
    source: Source, images: Images | None, config: CompileConfig, track: Track = no_progress
) -> CalibrationTable:
    """Return the ranges of ``source`` on samples of the training part, or on noise where that is asked for.

    Raises:
        CalibrationError: no images and no noise either, or see ``draw_samples`` and ``collect``.
    """
    return _tables(source, images, config, (config.method,), track)[0]


def _tables(
    source: Source, images: Images | None, config: CompileConfig, methods: Sequence[Method], track: Track
) -> list[CalibrationTable]:
    """Return a table for each method; all of them read the same counts."""
    spec = source.spec
    if images is None and not config.random_data:
        raise CalibrationError("expected training images to calibrate on, found none; name a data set")
    if images is None or config.random_data:
        dataset = RANDOM_DATA
        samples = random_samples(spec.labels, spec.preprocessing, config.samples or _SAMPLES, config.seed)
    else:
        check_labels(spec, images.training)
        dataset = images.dataset
        samples = draw_samples(images.training, config.samples or min(_SAMPLES, len(images.training)), config.seed)
    counts = collect(source.graph, spec, samples, track)
    return [tabulate(counts, source.graph, spec, samples, dataset, method) for method in methods]


def compile_bundle(
    source: Source,
    images: Images,
    config: CompileConfig,
    output: Path,
    table: CalibrationTable | None = None,
    track: Track = no_progress,
) -> Compiled:
    """Compile ``source`` and write the bundle ``output``; return it and how each file in it did on the validation part.

    Raises:
        CalibrationError: ``table`` belongs to another model or preprocessing, or nothing is made of it.
        BackendUnavailable: a target's builder cannot work here.
        BuildError: a builder refused a graph.
        AccuracyError: the graph strays from PyTorch, or a file from the graph, or no INT8 holds ``max_drop``; nothing
            is written.
    """
    check_labels(source.spec, images.validation)
    calibrated = any(precision in CALIBRATED for precision in config.precisions)
    if table is not None:
        if not calibrated:
            raise CalibrationError(
                "expected --precision int8 or fp8 beside a calibration table, found neither; leave the table out"
            )
        table.check_fits(source.sha256, source.spec.preprocessing)
    parity = _check_against_eager(source, images.validation)
    found, excluded = None, config.excluded
    if Precision.INT8 in config.precisions and config.max_drop is not None:
        others = [method for method in METHODS if method != config.method]
        tables = [table] if table else _tables(source, images, config, [config.method, *others], track)
        found, table = search(source, config.targets, tables, excluded, images.validation, config.max_drop, track)
        excluded = found.chosen.excluded
    elif calibrated:
        table = table or calibrate_source(source, images, config, track)
    graphs, decisions = typed_graphs(source, config.precisions, config.targets, table, excluded)
    least_share = 0.0 if config.allow_fallback else LEAST_SHARE
    engines, attested = build_engines(graphs, config.precisions, config.targets, least_share, track)
    files = [*graphs, *engines]
    if table is not None:
        files.append(entry_for(table.to_json().encode(), "calibration.json", "calibration", tools=table.tools))

    draft = Manifest(source.spec, source.record, tuple(entry for entry, _ in files))
    bundle = Bundle(output, draft, {entry.path: data for entry, data in files}, "")
    verdicts = verify(bundle, images.validation, track=track)
    faults = [f"{v.path} on {v.backend}: {v.fault}" for v in verdicts if v.fault]
    if config.max_drop is not None:
        lost = [v for v in verdicts if v.drop > config.max_drop and not v.fault]
        faults += [f"{v.path} on {v.backend} loses {v.drop:.2f} points, more than {config.max_drop:g}" for v in lost]
    if faults:
        raise AccuracyError(
            f"expected every file to keep the FP32 graph's accuracy, but {'; '.join(faults)}; "
            "try another --method or more --samples, or leave that precision out"
        )
    report = {
        "config": asdict(config),
        "dataset": images.dataset,
        "eager": parity,
        "nodes": {path: [asdict(d) for d in found] for path, found in decisions.items()},
        "layers": attested,
        "search": None if found is None else asdict(found),
        "verdicts": [asdict(v) for v in verdicts],
    }
    files = [(_measured(entry, verdicts, images.dataset), data) for entry, data in files]
    files.append(entry_for(json.dumps(report, indent=2).encode(), "report.json", "report", tools=versions("quillrt")))
    write_bundle(output, source.spec, source.record, files)
    return Compiled(Bundle.open(output), verdicts, found)


def _check_against_eager(source: Source, validation: ImageSet) -> dict[str, Any] | None:
    """Compare the graph with PyTorch eager on real images; ``None`` for a source that has no PyTorch side.

    Raises:
        AccuracyError: a logit differs by more than ten thousandths of the largest.
    """
    if source.checkpoint is None:
        return None
    from .export import eager_logits

    recipe = source.spec.preprocessing
    some = validation.take(np.arange(min(_EAGER_IMAGES, len(validation))))
    batch = normalize(fit_images(some, recipe), recipe, source.spec.channels)
    expected = eager_logits(source.checkpoint, batch)
    with open_session("onnxruntime-cpu", source.graph.SerializeToString(), source.spec) as session:
        difference = float(np.abs(session.run(batch) - expected).max())
    if not difference <= _EAGER_TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise AccuracyError(
            f"expected the exported graph to answer as PyTorch eager does, but a logit differs by {difference:.2g}; "
            "this is a fault of the exporter: please report it with the model"
        )
    return {"n": len(batch), "max_difference": difference}


def _measured(entry: Entry, verdicts: Sequence[Verdict], dataset: str) -> Entry:
    found = {
        v.backend: {
            "dataset": dataset,
            "part": "validation",
            "n": v.n,
            "accuracy": v.accuracy,
            "agreement": v.agreement,
        }
        for v in verdicts
        if v.path == entry.path and v.n
    }
    return replace(entry, measured=found)
