"""Engines made from a bundle's typed graphs on the machine that runs them, and kept there."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .build_options import DEFAULTS, BuildOptions
from .bundle import Bundle
from .bundle_writer import entry_for
from .cache import Cache
from .device import describe_device, find_gpus
from .engine_fit import cannot_build
from .errors import BackendUnavailable, BundleError, ConfigError
from .manifest import Entry
from .precision import Precision
from .progress import Phases, no_phases
from .select import buildable
from .tensorrt_api import FAMILIES, load
from .trt_build import BuiltEngine, build_engine
from .trt_layers import LayerInfo
from .trt_refit import refit
from .trt_timing import default_path
from .versions import versions


def built_engine(
    cache: Cache,
    graph: Entry,
    onnx: bytes,
    family: str,
    options: BuildOptions = DEFAULTS,
    timing_cache: Path | None = None,
    phases: Phases = no_phases,
) -> tuple[BuiltEngine, bool]:
    """Build an engine of ``onnx``, or take it out of ``cache``.

    What is kept is known by the graph's sha256, the options, the version of TensorRT, and, but for TensorRT-RTX, whose
    engines are for a list of GPUs, by this machine's GPUs and driver.

    Args:
        cache: keeps what was built.
        graph: the entry of ``onnx``.
        onnx: a graph typed for ``family``.
        family: out of ``FAMILIES``.
        options: how to build.
        timing_cache: see ``build_engine``; ``None``: the one that all builds on this GPU share.
        phases: shows progress.

    Returns:
        The engine, and whether it was built now.

    Raises:
        QuillError: as ``build_engine``.
    """
    tensorrt = load(family)
    built_now = False

    def build() -> bytes:
        nonlocal built_now
        built_now = True
        timings = timing_cache
        if timings is None and tensorrt.times_kernels:
            timings = default_path(tensorrt, find_gpus()[0])
        built = asdict(build_engine(onnx, family, options, timings, phases))
        engine: bytes = built.pop("engine")
        del built["options"]
        return json.dumps(built).encode() + b"\n" + engine

    key = ("engine", graph.sha256, family, tensorrt.version, _here(family), repr(options), repr(versions("quillrt")))
    facts, _, engine = cache.made(build, *key).partition(b"\n")
    found = json.loads(facts)
    found["layers"] = tuple(LayerInfo(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in found["layers"])
    found["compute_capabilities"] = tuple(found["compute_capabilities"])
    return BuiltEngine(engine, options=options, **found), built_now


def engine_file(graph: Entry, built: BuiltEngine, **facts: Any) -> tuple[Entry, bytes]:
    """Return the engine with its entry: what it fits, how it was built, and ``facts`` beside."""
    # A bundle may hold engines for several kinds of GPU, and TensorRT's own are for one each.
    where = f".sm{built.compute_capabilities[0].replace('.', '')}" if built.gpu else ""
    rounds = built.options.tf32 and graph.precision is Precision.FP32
    precision = Precision.TF32 if rounds else graph.precision
    name = "model.tf32" if rounds else graph.path.removesuffix(".onnx").removesuffix(".tensorrt")
    return entry_for(
        built.engine,
        f"{name}.{built.family}{where}.engine",
        "engine",
        precision=precision,
        backends=(built.family,),
        tools={**versions("quillrt"), built.family: built.tensorrt_version},
        built_for={**built.facts(), **facts},
        calibration=graph.calibration,
        calibrated=graph.calibrated,
    )


def with_weights(bundle: Bundle, entry: Entry, family: str, cache: Cache) -> bytes:
    """Return the engine ``entry``, built without weights, with those of the graph it was built from.

    Raises:
        BundleError: that graph is not in the bundle.
        QuillError: as ``refit``.
    """
    typed = Precision.FP32 if entry.precision is Precision.TF32 else entry.precision
    graph = next(
        (e for e in bundle.entries if e.kind == "onnx" and e.precision is typed and family in e.typed_for), None
    )
    if graph is None:
        raise BundleError(
            f"expected the graph of {entry.path} in {bundle.path}, for its weights, found none; build it again"
        )
    engine, onnx = bundle.read(entry), bundle.read(graph)
    key = ("refit", entry.sha256, graph.sha256, load(family).version, _here(family))
    return cache.made(lambda: refit(engine, onnx, family), *key)


def why_no_builder(family: str) -> str | None:
    """Return in one line why ``family`` cannot build engines here, or ``None`` if it can."""
    try:
        if not load(family).portable:
            find_gpus()
    except BackendUnavailable as error:
        return f"{family}: {error}"
    return None


def builder_here(asked: str | None) -> str:
    """Return the TensorRT family to build with, ``asked`` or else the first that can.

    Raises:
        ConfigError: no family is called ``asked``.
        BackendUnavailable: none can build here.
    """
    if asked is not None and asked not in FAMILIES:
        raise ConfigError(f"expected a backend out of {', '.join(FAMILIES)}, found {asked!r}; others build nothing")
    reasons = {family: why_no_builder(family) for family in ([asked] if asked else FAMILIES)}
    for family, reason in reasons.items():
        if reason is None:
            return family
    raise BackendUnavailable(f"no engine can be built here: {'; '.join(map(str, reasons.values()))}")


def graphs_to_build(bundle: Bundle, family: str, precisions: Sequence[Precision]) -> list[Entry]:
    """Return the graphs of ``precisions``, or else the one that ``run`` would build an engine of.

    Raises:
        BackendUnavailable: the bundle has none, or this GPU has no kernels for it.
    """
    gpu = next(iter(describe_device().gpus), None)
    asked: Sequence[Precision | None] = precisions or [None]
    chosen, reasons = [], []
    for precision in asked:
        found = buildable(bundle, family, precision)
        why = {e.path: cannot_build(e.precision, gpu) if gpu else None for e in found}
        able = [entry for entry in found if why[entry.path] is None]
        chosen += able[:1]
        if not able:
            wanted = precision.value if precision else "any"
            reasons += list(filter(None, why.values())) or [f"it has no graph of {wanted} precision for it"]
    if reasons:
        held = ", ".join(e.precision.value for e in buildable(bundle, family) if e.precision) or "none"
        raise BackendUnavailable(
            f"expected graphs in {bundle.path} that {family} can build here, found {held}: {'; '.join(reasons)}; "
            "choose another --precision, or compile again with it"
        )
    return chosen


def _here(family: str) -> str:
    """Return what an engine of ``family`` depends on beside its graph and options."""
    gpus = [] if load(family).portable else [asdict(gpu) for gpu in find_gpus()]
    return json.dumps([platform.machine(), gpus])
