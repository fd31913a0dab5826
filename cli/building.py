"""The verb build: native engines on the device that runs them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quillrt.cli.build_options import BUILD, AllowFallback, TimingCache, build_options
from quillrt.cli.console import note, phase_bars, print_json, print_table
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import Cached, Config, Debug, Device, Json, Quiet, cache_of
from quillrt.cli.verbs import with_options
from quillrt.runtime.errors import BuildError, ConfigError
from quillrt.runtime.pretrained import PREFIX


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
    device: Device = 0,
    allow_fallback: AllowFallback = False,
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
    from quillrt.runtime.bundle_writer import add_files
    from quillrt.runtime.fallback import fallback
    from quillrt.runtime.native import builder_here, built_engine, engine_file, graphs_to_build, is_kept
    from quillrt.runtime.precision import Precision

    options = build_options(chosen)
    if write and bundle.given.startswith(PREFIX):
        raise ConfigError(f"expected a bundle of yours to --write to, found {bundle}; copy {bundle.path} and give that")
    if not write and (options.changed or not cached):
        what = f"other settings than the defaults ({', '.join(options.changed)})" if options.changed else "--no-cache"
        raise ConfigError(f"expected --write beside {what}, for run would not find the engine; add it, or leave it out")
    opened = Bundle.open(bundle.path)
    family = builder_here(backend, device)
    cache = cache_of(cached)
    files, rows = [], []
    precisions = [Precision.parse(name) for name in dict.fromkeys(precision or ())]
    for graph in graphs_to_build(opened, family, precisions, device):
        note(f"{graph.path}: an engine for {family}", quiet)
        with phase_bars(quiet) as phases:
            built, built_now = built_engine(
                cache, graph, opened.read(graph), family, options, timing_cache, phases, device
            )
        if timing_cache is not None and not built_now:
            note(f"{graph.path}: built before, {timing_cache} is not used; --no-cache --write builds anew", quiet)
        if not (write or is_kept(cache, graph, family, options, device)):
            raise BuildError(
                f"expected to keep the engine of {graph.path} in {cache.folder}, but that cannot be written; make room "
                "there, set QUILLRT_CACHE to another folder, or give --write"
            )
        if (strays := fallback(opened, graph, built)) and not allow_fallback:
            raise BuildError(f"{strays}; choose another --precision, or give --allow-fallback")
        if not built.precisions():
            why = f"the builder lists no products at --verbosity {options.verbosity}"
            note(f"{graph.path}: {why}, so nobody can say what they compute in", quiet)
        entry, engine = engine_file(graph, built)
        files.append((entry, engine))
        rows.append(
            {
                "file": entry.path,
                "precision": entry.precision and entry.precision.value,
                "bytes": entry.size,
                "sha256": entry.sha256,
                "built_now": built_now,
                **entry.built_for,
            }
        )
    if write:
        add_files(opened, files)
        if opened.is_signed:
            note(f"{bundle}: was signed without the new files and is not signed now: quillrt sign", quiet)
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
                ", ".join(f"{kind} × {count}" for kind, count in row["products"].items()) or "not told",
            )
            for row in rows
        ],
    )
