"""From a source to a bundle: type the graph for each precision, build engines, check all, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import AccuracyError, CalibrationError
from quillrt.runtime.manifest import Entry, Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.versions import versions
from quillrt.train.evaluation import check_labels

from .bundle_writer import entry_for, write_bundle
from .config import CALIBRATED, CompileConfig
from .engines import LEAST_SHARE, build_engines
from .graphs import typed_graphs
from .parity import check_against_eager
from .ranges import Images, calibrate_source, tables_of
from .search import METHODS, Search, search
from .source import Source
from .verify import Verdict, verify


class Compiled(NamedTuple):
    """What compiling gives: the bundle, how each file in it did, and what was searched if there was a gate."""

    bundle: Bundle
    verdicts: tuple[Verdict, ...]
    search: Search | None


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
    parity = check_against_eager(source, images.validation)
    found, excluded = None, config.excluded
    if Precision.INT8 in config.precisions and config.max_drop is not None:
        others = [method for method in METHODS if method != config.method]
        tables = [table] if table else tables_of(source, images, config, [config.method, *others], track)
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
