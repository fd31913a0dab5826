"""The verb build: native engines on the device that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.build_options import BUILD, TimingCache, build_options
from quillrt.cli.console import note, phase_bars, print_json, print_table
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import Cached, Config, Debug, Json, Quiet, cache_of
from quillrt.cli.verbs import with_options
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.pretrained import PREFIX

if TYPE_CHECKING:
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.manifest import Entry


@with_options(BUILD)
def build(
    bundle: BundleFile,
    backend: Annotated[
        str | None, typer.Option("--backend", help="tensorrt or tensorrt-rtx. Default: the first that builds here.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="Of the bundle's graphs; repeat. Default: the one run would choose."),
    ] = None,
    timing_cache: TimingCache = None,
    write: Annotated[bool, typer.Option("--write", help="Put the engines into the bundle.")] = False,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
    **chosen: Any,
) -> None:
    """Build engines of a bundle's graphs for this device; run takes them from the cache, or from the bundle."""
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.bundle_writer import with_files, write_bundle
    from quillrt.runtime.native import built_engine, engine_file

    options = build_options(chosen)
    opened = Bundle.open(bundle.path)
    if write and bundle.given.startswith(PREFIX):
        raise ConfigError(f"expected a bundle of yours to --write to, found {bundle}; copy {bundle.path} and give that")
    family = _family(backend)
    files, rows = [], []
    for graph in _graphs(opened, family, precision):
        note(f"{graph.path}: building for {family}", quiet)
        with phase_bars(quiet) as phases:
            built, built_now = built_engine(
                cache_of(cached), graph, opened.read(graph), family, options, timing_cache, phases
            )
        file = engine_file(graph, built)
        files.append(file)
        rows.append(
            {
                "file": file[0].path,
                "precision": graph.precision.value if graph.precision else "",
                "bytes": file[0].size,
                "sha256": file[0].sha256,
                "seconds": round(built.seconds, 3),
                "built_now": built_now,
                **file[0].built_for,
            }
        )
    if write:
        manifest = opened.manifest
        write_bundle(bundle.path, manifest.model, manifest.source, with_files(opened, files), manifest.preferred)
    if as_json:
        print_json({"bundle": str(bundle), "written": write, "engines": rows})
        return
    print_table(
        f"{bundle}: engines {'in the bundle' if write else 'in the cache of this machine'}",
        ("file", "fits SM", "KiB", "seconds", "", "products built in"),
        [
            (
                row["file"],
                ", ".join(row["compute_capabilities"]),
                f"{row['bytes'] / 1024:,.0f}",
                f"{row['seconds']:.1f}",
                "built" if row["built_now"] else "built before",
                ", ".join(f"{kind} × {count}" for kind, count in row["products"].items()),
            )
            for row in rows
        ],
    )


def _family(asked: str | None) -> str:
    """Return the TensorRT to build with.

    Raises:
        ConfigError: no family is called ``asked``.
        BackendUnavailable: none can build here.
    """
    from quillrt.runtime.native import why_no_builder
    from quillrt.runtime.tensorrt_api import FAMILIES

    if asked is not None and asked not in FAMILIES:
        raise ConfigError(
            f"expected a backend out of {', '.join(FAMILIES)}, found {asked!r}; others open ONNX as it is"
        )
    reasons = {family: why_no_builder(family) for family in ([asked] if asked else FAMILIES)}
    for family, reason in reasons.items():
        if reason is None:
            return family
    raise BackendUnavailable(f"no engine can be built here: {'; '.join(map(str, reasons.values()))}")


def _graphs(bundle: Bundle, family: str, precisions: list[str] | None) -> list[Entry]:
    """Return the graphs to build engines of.

    Raises:
        BackendUnavailable: the bundle has none, none of a precision asked for, or none that this GPU computes.
    """
    from quillrt.runtime.device import describe_device
    from quillrt.runtime.engine_fit import cannot_build
    from quillrt.runtime.precision import Precision
    from quillrt.runtime.select import buildable

    gpus = describe_device().gpus
    found = buildable(bundle, family)
    held = ", ".join(entry.precision.value for entry in found if entry.precision)
    if precisions is None:
        reasons = [cannot_build(entry.precision, gpus[0]) if gpus else None for entry in found]
        for entry, reason in zip(found, reasons, strict=True):
            if not reason:
                return [entry]
        why = "; ".join(filter(None, reasons)) or "it holds no graph for it"
        raise BackendUnavailable(f"{bundle.path} has nothing that {family} can build here: {why}; compile again")
    chosen = []
    for name in precisions:
        precision = Precision.parse(name)
        entries = buildable(bundle, family, precision)
        if not entries:
            raise BackendUnavailable(
                f"expected a {name} graph for {family} in {bundle.path}, found {held or 'none'}; compile again with it"
            )
        if gpus and (reason := cannot_build(precision, gpus[0])):
            raise BackendUnavailable(f"{family} cannot build {entries[0].path} here: {reason}")
        chosen.append(entries[0])
    return chosen


VERBS = (build,)
