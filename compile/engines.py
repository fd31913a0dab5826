"""Native engines from typed graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from quillrt.runtime.backends import why_unavailable
from quillrt.runtime.build_options import DEFAULTS, BuildOptions
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.errors import BuildError
from quillrt.runtime.fallback import LEAST_SHARE
from quillrt.runtime.manifest import Entry
from quillrt.runtime.native import built_engine, engine_file, why_no_builder
from quillrt.runtime.precision import Precision
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.tensorrt_api import FAMILIES
from quillrt.runtime.trt_build import BuiltEngine

from .computed import Computed, by_datatype
from .graphs import LITERT, File


def build_engines(
    graphs: Sequence[File],
    precisions: Sequence[Precision],
    targets: Sequence[str],
    least_share: float = LEAST_SHARE,
    track: Track = no_progress,
    cache: Cache = NO_CACHE,
    options: BuildOptions = DEFAULTS,
) -> tuple[list[File], dict[str, list[dict[str, Any]]]]:
    """Build an engine of each precision for each TensorRT family among ``targets``.

    Args:
        graphs: typed graphs with their entries.
        precisions: of which to build engines.
        targets: families out of ``FAMILIES``; other targets have no builder.
        least_share: of the multiply-adds that a graph types so, 0..1; what is built with less is refused.
        track: shows progress.
        cache: keeps what was built.
        options: how to build.

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
            built, _ = built_engine(cache, entry, data, family, options)
        except BuildError as error:
            raise BuildError(f"{error}; leave {family} out with --target onnxruntime-cpu") from error
        file = _file(entry, data, built, least_share)
        files.append(file)
        layers[file[0].path] = [asdict(layer) for layer in built.layers]
    return files, layers


def buildable() -> tuple[str, ...]:
    """Return the TensorRT families whose builder can work on this machine."""
    return tuple(family for family in FAMILIES if why_no_builder(family) is None)


def all_targets() -> tuple[str, ...]:
    """Return every target that can be made on this machine; ONNX graphs for CPUs serve OpenVINO, too."""
    return ("onnxruntime-cpu", *(() if why_unavailable(LITERT) else (LITERT,)), *buildable())


def attest(graph: bytes, built: BuiltEngine, precision: str) -> Computed:
    """Return what the kernels multiply in, nothing where the builder lists none."""
    import onnx

    if not built.layers:
        return Computed({}, 0.0, ())
    datatypes = {node: layer.datatype for layer in built.layers if layer.is_product for node in layer.nodes}
    return by_datatype(onnx.load_from_string(graph), datatypes, precision)


def _file(graph: Entry, data: bytes, built: BuiltEngine, least_share: float) -> File:
    """Return the engine with what it fits and what it computes in.

    Raises:
        BuildError: less than ``least_share`` was built in the graph's precision.
    """
    assert graph.precision is not None  # noqa: S101 - typed graphs have one
    precision = graph.precision.value
    computed = attest(data, built, precision)
    if computed.macs and computed.share < least_share:
        raise BuildError(
            f"expected {built.family} to build {least_share:.0%} of the multiply-adds of {graph.path} in {precision}, "
            f"found {computed}; leave {precision} out for this target, or give --allow-fallback"
        )
    return engine_file(graph, built, macs=computed.macs)
