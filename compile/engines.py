"""Native engines from typed graphs."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from quillrt.runtime.backends import why_unavailable
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.device import find_gpus
from quillrt.runtime.errors import BackendUnavailable, BuildError
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.tensorrt_api import FAMILIES, load
from quillrt.runtime.trt_build import BuiltEngine, build_engine
from quillrt.runtime.trt_layers import LayerInfo
from quillrt.runtime.versions import versions

from .bundle_writer import entry_for
from .graphs import LITERT, File
from .macs import by_datatype

LEAST_SHARE = 0.9  # of the multiply-adds that a graph types so


def build_engines(
    graphs: Sequence[File],
    precisions: Sequence[Precision],
    targets: Sequence[str],
    least_share: float = LEAST_SHARE,
    track: Track = no_progress,
    cache: Cache = NO_CACHE,
) -> tuple[list[File], dict[str, list[dict[str, Any]]]]:
    """Build an engine of each precision for each TensorRT family among ``targets``.

    Args:
        graphs: typed graphs with their entries.
        precisions: of which to build engines.
        targets: families out of ``FAMILIES``; other targets have no builder.
        least_share: of the multiply-adds that a graph types so, 0..1; what is built with less is refused.
        track: shows progress.
        cache: keeps what was built.

    Returns:
        The engines, and by path their layers with the datatype each was really built in.

    Raises:
        BackendUnavailable: a family's builder cannot work here.
        BuildError: it refused a graph, or built too little of it in its precision.
    """
    wanted = [
        (family, entry, data)
        for family in FAMILIES
        if family in targets
        for entry, data in graphs
        if family in entry.typed_for and entry.precision in precisions
    ]
    files: list[File] = []
    layers: dict[str, list[dict[str, Any]]] = {}
    for family, entry, data in track(wanted, "building engines", len(wanted)):
        try:
            built = _built(cache, entry.sha256, data, family)
        except BuildError as error:
            raise BuildError(f"{error}; leave {family} out with --target onnxruntime-cpu") from error
        file = _file(entry, data, built, least_share)
        files.append(file)
        layers[file[0].path] = [asdict(layer) for layer in built.layers]
    return files, layers


def _built(cache: Cache, graph_sha256: str, graph: bytes, family: str) -> BuiltEngine:
    """Build an engine, or take it out of the cache: one line of JSON with all about it, then the engine."""

    def build() -> bytes:
        built = asdict(build_engine(graph, family))
        engine: bytes = built.pop("engine")
        return json.dumps(built).encode() + b"\n" + engine

    tensorrt = load(family)
    here = "" if tensorrt.portable else json.dumps([asdict(gpu) for gpu in find_gpus()])
    ours = repr(versions("quillrt"))
    ingredients = ("engine", graph_sha256, family, tensorrt.version, platform.machine(), here, ours)
    facts, _, engine = cache.made(build, *ingredients).partition(b"\n")
    found = json.loads(facts)
    found["layers"] = tuple(LayerInfo(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in found["layers"])
    found["compute_capabilities"] = tuple(found["compute_capabilities"])
    return BuiltEngine(engine, **found)


def buildable() -> tuple[str, ...]:
    """Return the TensorRT families whose builder can work on this machine."""
    return tuple(family for family in FAMILIES if _can_build(family))


def all_targets() -> tuple[str, ...]:
    """Return every target that can be made on this machine; ONNX graphs for CPUs serve OpenVINO, too."""
    return ("onnxruntime-cpu", *(() if why_unavailable(LITERT) else (LITERT,)), *buildable())


def _can_build(family: str) -> bool:
    try:
        return load(family).portable or bool(find_gpus())
    except BackendUnavailable:
        return False


def attest(graph: bytes, built: BuiltEngine, precision: str) -> tuple[dict[str, int], float]:
    """Return what the kernels multiply in, and the share that is in ``precision`` of what the graph types so.

    Returns:
        Multiply-adds of one image by datatype, ``unknown`` for nodes that no kernel names, empty where the builder
        lists none; and a share, 0..1.
    """
    import onnx

    if not built.layers:
        return {}, 0.0
    datatypes = {node: layer.datatype for layer in built.layers if layer.is_product for node in layer.nodes}
    return by_datatype(onnx.load_from_string(graph), datatypes, precision)


def _file(graph: Entry, data: bytes, built: BuiltEngine, least_share: float) -> File:
    """Return the engine with what it fits and what it computes in.

    Raises:
        BuildError: less than ``least_share`` was built in the graph's precision.
    """
    assert graph.precision is not None  # noqa: S101 - typed graphs have one
    precision = graph.precision.value
    macs, share = attest(data, built, precision)
    if macs and share < least_share:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in macs.items())
        raise BuildError(
            f"expected {built.family} to build {least_share:.0%} of the multiply-adds of {graph.path} in {precision}, "
            f"found {share:.0%}: {kinds}; leave {precision} out for this target, or give --allow-fallback"
        )
    return entry_for(
        built.engine,
        f"model.{precision}.{built.family}.engine",
        "engine",
        precision=graph.precision,
        backends=(built.family,),
        tools={**versions("quillrt"), built.family: built.tensorrt_version},
        built_for={
            "tensorrt": built.tensorrt_version,
            "compute_capabilities": list(built.compute_capabilities),
            "products": built.precisions(),
            "macs": macs,
        },
        calibration=graph.calibration,
        calibrated=graph.calibrated,
    )
