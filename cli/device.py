"""The verb run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quillrt.cli.console import note, phase_bars, print_json, shown
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import (
    Backend,
    Cached,
    Config,
    CudaGraph,
    Debug,
    Device,
    Json,
    PrecisionName,
    PreprocessingWay,
    ProviderOption,
    Quiet,
    RequireSignature,
    Threads,
    cache_of,
    precision_of,
    provider_options,
)

if TYPE_CHECKING:
    from quillrt.runtime.prepare import Prepared
    from quillrt.runtime.preprocessing import Preprocessing


def run(
    ctx: typer.Context,
    bundle: BundleFile,
    images: Annotated[list[str], typer.Argument(help="Image files, folders of them, or - for one image on stdin.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Write a row for each image to this .jsonl, .csv or .parquet file."),
    ] = None,
    on: Annotated[
        Literal["ray"] | None,
        typer.Option("--on", help="On the cluster of RAY_ADDRESS, or one started here; --output is then a folder."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the --output of a run that was ended.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make an --output that is there anew.")] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=1024, help="Processes that read images for --output; actors on Ray."),
    ] = None,
    backend: Backend = None,
    precision: PrecisionName = None,
    preprocessing: PreprocessingWay = "auto",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels per image.")] = 1,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Answer 'unsure' below this probability.")
    ] = 0.0,
    reject: Annotated[
        bool, typer.Option("--reject/--no-reject", help="Answer 'no character' where the bundle's threshold says so.")
    ] = True,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536, help="Images per query.")] = 64,
    threads: Threads = None,
    provider_option: ProviderOption = None,
    device: Device = 0,
    cuda_graph: CudaGraph = False,
    require_signature: RequireSignature = None,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Recognize the character in each image: prints file, label and probability, or writes them to a file."""
    from quillrt.cli.bulk import Bulk, run_into_file, run_on_ray
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.ort_options import for_batch
    from quillrt.runtime.predict import predict_prepared
    from quillrt.runtime.prepare import check_way
    from quillrt.runtime.rows import Choices
    from quillrt.runtime.select import open_fitting
    from quillrt.runtime.session import SessionOptions

    if output is None and (resume or overwrite or on or workers):
        raise typer.BadParameter("--resume, --overwrite, --workers and --on go with --output")
    if resume and overwrite:
        raise typer.BadParameter("--resume keeps the rows that --overwrite removes; give one of them")
    if "" in images:  # as an unset variable leaves it; a path of nothing would be this folder
        raise typer.BadParameter("expected image files, folders or -, found an empty name")
    check_way(preprocessing)
    bulk = Bulk(images, output or "", resume, overwrite, workers, batch_size, as_json, quiet)
    if output is not None and on is None:
        from quillrt.runtime.bulk import shared_out  # not for one image: its processes and threads take time to load
        from quillrt.runtime.device import cores

        bulk.check()
        workers, threads = shared_out(workers, threads, cores())
        bulk = replace(bulk, workers=workers)
    given = provider_options(provider_option)
    tied = for_batch(backend, given, batch_size) if backend and cuda_graph else given
    sizes = () if output is None else (batch_size,)  # one query is not worth a graph of its own
    options = SessionOptions(threads, device, tied, cuda_graph=cuda_graph, batch_sizes=sizes)
    choices = Choices(top_k, min_confidence, reject, preprocessing)
    opened = Bundle.open(bundle.path, require_signature)
    if on is not None:
        from quillrt.runtime.ray_job import Model

        options = replace(options, threads=threads or 1)
        run_on_ray(ctx, bulk, opened, Model(backend, precision_of(precision), options, cache_of(cached), choices))
        return
    with phase_bars(quiet) as phases:
        session, entry, chosen = open_fitting(
            opened,
            backend,
            precision_of(precision),
            options,
            cache_of(cached),
            phases,
            lambda line: note(line, quiet),
        )
    with session:
        if output is not None:
            note(f"{entry.path} on {chosen}", quiet)
            run_into_file(ctx, bulk, session, opened, {"file": entry.path, "backend": chosen}, choices)
            return
        confidence = opened.manifest.confidence
        prepared = _prepared(map(Path, images), session.spec.preprocessing, preprocessing)
        predictions = list(predict_prepared(session, prepared, top_k, batch_size, confidence))
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "file": entry.path,
                "backend": chosen,
                "predictions": [p.to_json(min_confidence, reject=reject) for p in predictions],
            }
        )
        return
    note(f"{entry.path} on {chosen}", quiet)
    for p in predictions:
        answers = "  ".join(f"{label} {share:.4f}" for label, share in p.top)
        doubt = p.doubt(min_confidence, reject=reject)
        sys.stdout.write(f"{shown(p.name)}  {f'{doubt} ({answers})' if doubt else answers}\n")


def _prepared(paths: Iterable[Path], recipe: Preprocessing, way: str) -> Iterator[tuple[str, Prepared]]:
    from quillrt.runtime.files import bounded
    from quillrt.runtime.images import MOST_BYTES, find_images
    from quillrt.runtime.prepare import prepare_file

    for path in paths:
        if str(path) == "-":
            yield "-", prepare_file(bounded(sys.stdin.buffer, MOST_BYTES, "stdin"), recipe, way, "stdin")
            continue
        for file in find_images([path]):
            yield str(file), prepare_file(file, recipe, way)
