"""Engines made from a bundle's typed graphs on the machine that runs them, and kept there."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .build_options import DEFAULTS, BuildOptions
from .bundle import Bundle
from .bundle_writer import entry_for
from .cache import Cache
from .device import find_gpus
from .errors import BackendUnavailable, BundleError
from .manifest import Entry
from .progress import Phases, no_phases
from .tensorrt_api import load
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
    return entry_for(
        built.engine,
        graph.path.removesuffix(".onnx").removesuffix(".tensorrt") + f".{built.family}{where}.engine",
        "engine",
        precision=graph.precision,
        backends=(built.family,),
        tools={**versions("quillrt"), built.family: built.tensorrt_version},
        built_for={**built.facts(), **facts},
        calibration=graph.calibration,
        calibrated=graph.calibrated,
    )


def with_weights(bundle: Bundle, entry: Entry, family: str, cache: Cache) -> bytes:
    """Return the engine ``entry``; where its weights were left out, with those of the graph it was built from.

    Raises:
        BundleError: that graph is not in the bundle.
        QuillError: as ``refit``.
    """
    engine = bundle.read(entry)
    if not entry.built_for.get("options", {}).get("strip"):
        return engine
    graph = next(
        (e for e in bundle.entries if e.kind == "onnx" and e.precision is entry.precision and family in e.typed_for),
        None,
    )
    if graph is None:
        raise BundleError(
            f"expected the graph of {entry.path} in {bundle.path}, for its weights, found none; build it again"
        )
    onnx = bundle.read(graph)
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


def _here(family: str) -> str:
    """Return what an engine of ``family`` depends on beside its graph and options."""
    gpus = [] if load(family).portable else [asdict(gpu) for gpu in find_gpus()]
    return json.dumps([platform.machine(), gpus])
