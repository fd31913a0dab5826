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
from .cuda import open_cuda
from .device import describe_device, find_gpu
from .engine_fit import cannot_build
from .errors import BackendUnavailable, BundleError, ConfigError
from .manifest import Entry
from .precision import Precision
from .progress import Phases, no_phases
from .select import buildable
from .session import SessionOptions
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
    device: int = 0,
) -> tuple[BuiltEngine, bool]:
    """Build an engine of ``onnx``, or take it out of ``cache``.

    What is kept is known by the graph's sha256, the options, the version of TensorRT, and, but for TensorRT-RTX, whose
    engines are for a list of GPUs, by the kind of GPU and its driver.

    Args:
        cache: keeps what was built.
        graph: the entry of ``onnx``.
        onnx: a graph typed for ``family``.
        family: out of ``FAMILIES``.
        options: how to build.
        timing_cache: see ``build_engine``; ``None``: the one in ``cache`` that all builds on this GPU share.
        phases: shows progress.
        device: index of the GPU to build for.

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
        if timings is None and tensorrt.times_kernels and cache.folder is not None:
            timings = default_path(cache.folder, tensorrt, find_gpu(device))
        built = asdict(build_engine(onnx, family, options, timings, phases, device))
        engine: bytes = built.pop("engine")
        del built["options"]
        return json.dumps(built).encode() + b"\n" + engine

    facts, _, engine = cache.made(build, *_key(graph, family, options, device)).partition(b"\n")
    found = json.loads(facts)
    found["layers"] = tuple(LayerInfo(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in found["layers"])
    found["compute_capabilities"] = tuple(found["compute_capabilities"])
    return BuiltEngine(engine, options=options, **found), built_now


def is_kept(cache: Cache, graph: Entry, family: str, options: BuildOptions = DEFAULTS, device: int = 0) -> bool:
    """Return whether ``built_engine`` would take the engine out of ``cache``."""
    return cache.read(*_key(graph, family, options, device)) is not None


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


def with_weights(bundle: Bundle, entry: Entry, family: str, options: SessionOptions) -> bytes:
    """Return the engine ``entry``, built without weights, with those of the graph it was built from.

    Args:
        bundle: holds both.
        entry: of the engine.
        family: of its TensorRT.
        options: of the session that will run it.

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
    key = ("refit", entry.sha256, graph.sha256, load(family).version, _here(family, options.device))
    return options.cache.made(
        lambda: refit(engine, onnx, family, options.device, host_code=options.host_code),
        *key,
    )


def why_no_builder(family: str, device: int = 0) -> str | None:
    """Return in one line why ``family`` cannot build engines for the GPU ``device``, or ``None`` if it can."""
    try:
        if not load(family).portable:
            find_gpu(device)
            open_cuda(device).close()
    except BackendUnavailable as error:
        return f"{family}: {error}"
    return None


def builder_here(asked: str | None, device: int = 0) -> str:
    """Return the TensorRT family to build with for the GPU ``device``, ``asked`` or else the first that can.

    Raises:
        ConfigError: no family is called ``asked``.
        BackendUnavailable: none can build here.
    """
    if asked is not None and asked not in FAMILIES:
        raise ConfigError(f"expected a backend out of {', '.join(FAMILIES)}, found {asked!r}; others build nothing")
    reasons = {family: why_no_builder(family, device) for family in ([asked] if asked else FAMILIES)}
    for family, reason in reasons.items():
        if reason is None:
            return family
    raise BackendUnavailable(f"no engine can be built here: {'; '.join(map(str, reasons.values()))}")


def graphs_to_build(bundle: Bundle, family: str, precisions: Sequence[Precision], device: int = 0) -> list[Entry]:
    """Return the graphs of ``precisions``, or else the one that ``run`` would build an engine of.

    Raises:
        ConfigError: one is no precision of graphs.
        BackendUnavailable: the bundle has none, or the GPU ``device`` has no kernels for it.
    """
    if Precision.TF32 in precisions:
        raise ConfigError(
            "expected a precision that graphs have, found tf32, which is the FP32 graph with products that round; "
            "give --precision fp32 --tf32"
        )
    gpu = describe_device().gpu(device)
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


def _key(graph: Entry, family: str, options: BuildOptions, device: int) -> tuple[str, ...]:
    """Return all that an engine of ``graph`` depends on."""
    here = _here(family, device)
    return ("engine", graph.sha256, family, load(family).version, here, repr(options), repr(versions("quillrt")))


def _here(family: str, device: int) -> str:
    """Return what an engine of ``family`` for the GPU ``device`` depends on beside its graph and options."""
    gpu = None if load(family).portable else asdict(find_gpu(device))
    return json.dumps([platform.machine(), gpu])
