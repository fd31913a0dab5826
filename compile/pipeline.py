"""From a source to a bundle: type the graph for each precision, build engines, check all, write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.backends import BY_NAME
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.errors import AccuracyError, CalibrationError, ExportError
from quillrt.runtime.fallback import LEAST_SHARE
from quillrt.runtime.manifest import Entry, Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.versions import versions

from .answers import Answers
from .attest import attest_graphs
from .choice import Choice, choose
from .confidence import confidence_of
from .config import CALIBRATED, CompileConfig
from .engines import build_engines
from .graphs import LITERT, File, typed_graphs
from .layers import forms, parity
from .litert import to_litert
from .parity import check_against_eager, some_input
from .pt2 import AOT_FILE, TARGET, torch_files
from .quantize import NodeDecision
from .ranges import Images, calibrate_source, tables_of
from .search import METHODS, Search, search
from .source import Source
from .verify import Verdict, verify


class Compiled(NamedTuple):
    """What compiling gives.

    Attributes:
        bundle: as written.
        verdicts: how each file did that was made.
        search: what was tried to hold a gate, where there was one.
        choice: what was timed, where the fastest was asked for.
    """

    bundle: Bundle
    verdicts: tuple[Verdict, ...]
    search: Search | None
    choice: Choice | None


def compile_bundle(
    source: Source,
    images: Images,
    config: CompileConfig,
    output: Path,
    table: CalibrationTable | None = None,
    track: Track = no_progress,
    cache: Cache = NO_CACHE,
) -> Compiled:
    """Compile ``source`` and write the bundle ``output``; return it and how each file in it did on the validation part.

    What ``cache`` keeps of an earlier or an interrupted compiling is not done again: counts of activations, answers of
    the search's candidates, engines.

    Raises:
        CalibrationError: ``table`` belongs to another model or preprocessing, or nothing is made of it.
        BackendUnavailable: a target's builder cannot work here.
        BuildError: a builder refused a graph.
        AccuracyError: the graph strays from PyTorch, or a file from the graph, or no INT8 holds ``max_drop``; nothing
            is written.
    """
    if table is not None:
        if not _is_calibrated(config.precisions):
            raise CalibrationError(
                "expected --precision int8, mixed or fp8 beside a calibration table, found neither; leave the table out"
            )
        table.check_fits(source.sha256, source.spec.preprocessing)
    answers = Answers(source.graph, source.spec, images.validation, cache)
    config, left_out = _without_what_litert_refuses(source, config)
    eager = check_against_eager(source, images.validation)
    config, table, found = _ranges(source, images, config, table, answers, track, cache)
    made = _make(source, config, table, track, cache)
    files = [*made.files]
    if table is not None:
        files.append(entry_for(table.to_json().encode(), "calibration.json", "calibration", tools=table.tools))

    bundle = _bundle(output, source, files)
    judged = verify(bundle, images.validation, track=track, asked=BY_NAME, reference=answers.reference)
    verdicts = (*_gated(judged, config.max_drop), *made.missing)
    choice = choose(bundle, verdicts, images.validation, config.batch, track) if config.auto else None
    if choice is not None:
        choice = replace(choice, note="; ".join(filter(None, (choice.note, left_out))))
        files = [(entry, data) for entry, data in files if _is_kept(entry, choice.chosen.precision)]
    kept = {entry.path for entry, _ in files}
    at_fault = [v for v in verdicts if v.fault and v.path in kept]
    if at_fault:
        calibrate = (
            "try another --method or more --samples, or " if _is_calibrated(v.precision for v in at_fault) else ""
        )
        raise AccuracyError(
            "expected every file to keep the FP32 graph's accuracy, but "
            f"{'; '.join(f'{v.path} on {v.backend}: {v.fault}' for v in at_fault)}; {calibrate}leave that precision out"
        )
    report = {
        "config": asdict(config),
        "dataset": images.dataset,
        "eager": eager,
        "parity": parity(forms(bundle), source.checkpoint, some_input(source, images.validation)),
        "nodes": {path: [asdict(d) for d in nodes] for path, nodes in made.decisions.items() if path in kept},
        "layers": {path: layers for path, layers in made.kernels.items() if path.partition(" on ")[0] in kept},
        "search": None if found is None else asdict(found),
        "choice": None if choice is None else asdict(choice),
        "verdicts": [asdict(v) for v in verdicts],
    }
    files = [(_measured(entry, verdicts, images.dataset), data) for entry, data in files]
    files.append(entry_for(json.dumps(report, indent=2).encode(), "report.json", "report", tools=versions("quillrt")))
    preferred = {} if choice is None else {"path": choice.chosen.path, "backend": choice.chosen.backend}
    confidence = confidence_of(source, answers)
    write_bundle(output, source.spec, source.record, files, preferred, confidence)
    return Compiled(Bundle.open(output, made_here=True), verdicts, found, choice)


class _Made(NamedTuple):
    """The files that compute, which nodes were quantized, which kernels run them, and what could not be made here."""

    files: Sequence[File]
    decisions: Mapping[str, tuple[NodeDecision, ...]]
    kernels: Mapping[str, list[dict[str, Any]]]
    missing: tuple[Verdict, ...]


def _make(source: Source, config: CompileConfig, table: CalibrationTable | None, track: Track, cache: Cache) -> _Made:
    """Type the graphs, ask what computes them here, and build engines and programs."""
    programs, no_package = torch_files(source) if TARGET in config.targets else ([], "")
    missing = (Verdict(AOT_FILE, "pytorch-aot", Precision.FP32, reason=no_package),) if no_package else ()
    graphs, decisions = typed_graphs(source, config.precisions, config.targets, table, config.excluded)
    least_share = 0.0 if config.allow_fallback else LEAST_SHARE
    # Where the fastest is chosen, a graph that falls back stands or falls by its measured time; and a convolution
    # before one that is left in FP32 cannot but give FP32, which onnxruntime computes in FP32.
    strict = not config.auto and not config.excluded
    graphs, kernels = attest_graphs(graphs, source.spec, config.targets, least_share if strict else 0.0)
    engines, layers = build_engines(graphs, config.precisions, config.targets, least_share, track, cache, config.build)
    return _Made([*graphs, *engines, *programs], decisions, {**layers, **kernels}, missing)


def _without_what_litert_refuses(source: Source, config: CompileConfig) -> tuple[CompileConfig, str]:
    """Return the settings, without LiteRT where ``auto`` has to do without it, and why."""
    if config.auto and LITERT in config.targets:
        try:
            to_litert(source.graph)
        except ExportError as error:
            return replace(config, targets=tuple(each for each in config.targets if each != LITERT)), str(error)
    return config, ""


def _is_calibrated(precisions: Iterable[Precision]) -> bool:
    return any(precision in CALIBRATED for precision in precisions)


def _ranges(
    source: Source,
    images: Images,
    config: CompileConfig,
    table: CalibrationTable | None,
    answers: Answers,
    track: Track,
    cache: Cache,
) -> tuple[CompileConfig, CalibrationTable | None, Search | None]:
    """Return the settings as the gate changes them, the table of what is quantized, and how the gate found it."""
    if not _is_calibrated(config.precisions):
        return config, None, None
    if config.max_drop is None or not {Precision.INT8, Precision.MIXED}.intersection(config.precisions):
        return config, table or calibrate_source(source, images, config, track, cache), None
    others = [method for method in METHODS if method != config.method]
    if table is None:
        tables = tables_of(source, images, config, [config.method, *others], track, cache)
    else:
        given = table
        tables = [lambda: given]
    try:
        typed = [target for target in config.targets if target != TARGET] or ["onnxruntime-cpu"]  # TARGET has no INT8
        found, table = search(source, typed, tables, config.excluded, answers, config.max_drop, track)
    except AccuracyError:
        if not config.auto:
            raise
        rest = tuple(precision for precision in config.precisions if precision not in CALIBRATED)
        return replace(config, precisions=rest, excluded=()), None, None  # the others compete without it
    return replace(config, excluded=found.chosen.excluded), table, found


def _bundle(output: Path, source: Source, files: Sequence[File]) -> Bundle:
    """Return the bundle that is not written yet."""
    manifest = Manifest(source.spec, source.record, tuple(entry for entry, _ in files))
    return Bundle(output, manifest, {entry.path: data for entry, data in files}, "")


def _gated(verdicts: Sequence[Verdict], max_drop: float | None) -> tuple[Verdict, ...]:
    """Return the verdicts, with what the gate forbids as a fault, be it chance or not."""
    if max_drop is None:
        return tuple(verdicts)
    return tuple(
        replace(v, fault=f"it loses {v.drop:.2f} points (p = {v.p:.2g}), more than {max_drop:g} allowed")
        if v.drop > max_drop and not v.fault
        else v
        for v in verdicts
    )


def _is_kept(entry: Entry, chosen: Precision) -> bool:
    """Whether a file stays once a precision is chosen: its graphs, also for other devices, and what it depends on."""
    if entry.kind == "calibration":
        return chosen in CALIBRATED
    return entry.precision is chosen or (
        entry.precision is Precision.FP32 and (entry.kind == "onnx" or not set(BY_NAME).isdisjoint(entry.backends))
    )


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
