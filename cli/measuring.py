"""Verbs that measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.model_files import BundleFile, ModelFile, checkpoint_file
from quillrt.cli.options import (
    Config,
    DataRoot,
    Debug,
    Device,
    Json,
    ModelDataset,
    ProviderOption,
    Quiet,
    Threads,
    option_pairs,
    provider_options,
    save_config,
)


def bench(
    ctx: typer.Context,
    bundle: BundleFile,
    checkpoint: Annotated[
        ModelFile | None,
        typer.Option(
            "--checkpoint",
            metavar="PATH",
            parser=checkpoint_file,
            help="What it was compiled from: adds PyTorch's rows; a path or models:NAME.",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", min=1, max=65536, help="Images in a query; repeatable; 1 and 64 if not given."),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0.01, max=3600, help="Measured per row; a slow row takes longer, for 65 queries."
        ),
    ] = 3.0,
    threads: Threads = 1,
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    part: Annotated[str, typer.Option("--part", help="train, validation, test or all.")] = "test",
    backend: Annotated[
        list[str] | None, typer.Option("--backend", help="Only rows of this backend; repeatable.")
    ] = None,
    provider_option: ProviderOption = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="KEY=VALUE",
            help="One more row of each backend that takes it, with this option besides: provider options of "
            "onnxruntime's, mode=max-autotune of torch-compile; repeatable.",
        ),
    ] = None,
    device: Device = 0,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="One more row, with CUDA graphs, of each backend that makes them.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time each layer, where the backend tells: TensorRT, onnxruntime-cpu.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", help="Folder for the report.")] = Path("runs/bench"),
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Measure every backend side by side on the same images, each in its own process, by one clock."""
    from quillrt.benchmarks.bench import Rows
    from quillrt.benchmarks.bench import bench as run
    from quillrt.benchmarks.images import choose_images
    from quillrt.benchmarks.report import COLUMNS, LAYER_COLUMNS, cells, conditions, layer_cells, notes
    from quillrt.benchmarks.running import Settings
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.errors import BackendUnavailable

    chosen = Rows(backend or (), provider_options(provider_option), option_pairs(variant), cuda_graph)
    settings = Settings(
        batches=tuple(batch or Settings.batches),
        seconds=seconds,
        threads=threads or Settings.threads,
        device=device,
        layers=layers,
    )
    opened = Bundle.open(bundle.path)
    manifest = opened.manifest
    source, images = choose_images(manifest.training, manifest.model.preprocessing, dataset, data_root, part)
    result = run(
        opened,
        checkpoint.path if checkpoint else None,
        images,
        source,
        settings,
        output,
        chosen,
        tracker(quiet),
        lambda line: note(line, quiet),
    )
    save_config(ctx, output / "config.toml")
    if not any(row.measured for row in result.rows):
        raise BackendUnavailable(
            f"expected a row that can be measured, found none: {'; '.join(notes(result.rows))}; see {output}/log.txt"
        )
    if as_json:
        print_json(result.to_json(raw=False))
    else:
        rows = cells(result.rows)
        halves = {  # side by side they are wider than a terminal of 80 columns
            f"Latency of {bundle.path.name}, host memory to host memory": range(6),
            "Beside the references": (0, 1, *range(6, len(COLUMNS))),
        }
        for title, half in halves.items():
            print_table(title, [COLUMNS[i] for i in half], [[row[i] for i in half] for row in rows])
        for row in result.rows:
            if row.measured and row.measured.layers:
                print_table(f"Layers of {row.name}, batch {row.batch}", LAYER_COLUMNS, layer_cells(row.measured))
        for line in (*notes(result.rows), *conditions(result)):
            typer.echo(line)
    written = [name for name in ("result.json", "result.md", "latency.png", "log.txt") if (output / name).exists()]
    note(f"written: {', '.join(written)} in {output}", quiet)
