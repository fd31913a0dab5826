"""Native engines from typed graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from quillrt.runtime.device import find_gpus
from quillrt.runtime.errors import BackendUnavailable, BuildError
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.tensorrt_api import FAMILIES, load
from quillrt.runtime.trt_build import BuiltEngine, build_engine
from quillrt.runtime.versions import versions

from .bundle_writer import entry_for
from .graphs import File


def build_engines(
    graphs: Sequence[File], precisions: Sequence[Precision], targets: Sequence[str], track: Track = no_progress
) -> tuple[list[File], dict[str, list[dict[str, Any]]]]:
    """Build an engine of each precision for each TensorRT family among ``targets``.

    Returns:
        The engines, and by path their layers with the datatype each was really built in.

    Raises:
        BackendUnavailable: a family's builder cannot work here.
        BuildError: it refused a graph.
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
            built = build_engine(data, family)
        except BuildError as error:
            raise BuildError(f"{error}; leave {family} out with --target onnxruntime-cpu") from error
        file = _file(entry, built)
        files.append(file)
        layers[file[0].path] = [asdict(layer) for layer in built.layers]
    return files, layers


def buildable() -> tuple[str, ...]:
    """Return the TensorRT families whose builder can work on this machine."""
    return tuple(family for family in FAMILIES if _can_build(family))


def _can_build(family: str) -> bool:
    try:
        return load(family).portable or bool(find_gpus())
    except BackendUnavailable:
        return False


def _file(graph: Entry, built: BuiltEngine) -> File:
    """Return the engine with what it fits and what it computes in.

    Raises:
        BuildError: no convolution or product was built in the precision of the graph.
    """
    assert graph.precision is not None  # noqa: S101 - typed graphs have one
    precision, found = graph.precision.value, built.precisions()
    if found and precision not in found:
        raise BuildError(
            f"expected {built.family} to build {graph.path} in {precision}, but its kernels compute in "
            f"{', '.join(found)}; leave {precision} out for this target"
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
            "products": found,
        },
        calibration=graph.calibration,
        calibrated=graph.calibrated,
    )
