"""Verbs that measure."""

from __future__ import annotations

from collections.abc import Sequence
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
    Seed,
    Threads,
    provider_options,
    save_config,
    variant_options,
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
        typer.Option(
            "--batch", min=1, max=65536, help="Images in a query; repeatable; the scenario's if not given, as 1 and 64."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="quick, full or gpu: rows and effort; other options go before it."),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            help="single-stream, multi-stream, offline or server, as MLPerf's LoadGen has them; server searches the "
            "highest rate of random arrivals that holds --latency-bound-ms.",
        ),
    ] = "single-stream",
    latency_bound_ms: Annotated[
        float | None,
        typer.Option("--latency-bound-ms", help="What the 99th percentile has to hold, in the scenario server."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.01,
            max=3600,
            help="Measured per row, 3 if not given; a slow row takes longer, for the queries of its percentile.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=1000, help="Turns of each row; 5 if not given.")
    ] = None,
    builds: Annotated[
        int | None,
        typer.Option(
            "--builds",
            min=1,
            max=1000,
            help="Make every session anew so often, TensorRT's engines are built again; 1 if not given, or the "
            "preset's. From 2 on intervals hold for other sessions, too; 3 or more keep them narrow.",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Answers are compared on so many images at most.")
    ] = None,
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
            "onnxruntime's, mode=max-autotune of torch-compile, memory_format=channels_last and autocast=bfloat16 of "
            "PyTorch's; several in one row: KEY=VALUE,KEY=VALUE; repeatable.",
        ),
    ] = None,
    device: Device = 0,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="One more row, with CUDA graphs, of each backend that makes them.")
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            help="Another's way to measure, beside our rows: onnxruntime-loop, openvino-benchmark-app, "
            "litert-benchmark, trtexec; repeatable.",
        ),
    ] = None,
    seed: Seed = 0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also time each layer, where the backend tells: TensorRT, onnxruntime-cpu.")
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="More rows: batch (1, 2, 4 ... to two steps beyond each row's knee), threads (1, 2, 4 ... cores), "
            "size (the checkpoint's network, untrained, for images of 28 to 64 pixels); repeatable.",
        ),
    ] = None,
    roofline: Annotated[
        bool,
        typer.Option(
            "--roofline",
            help="Measure what this machine can do at best, and say how near each row comes to its bound.",
        ),
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")] = Path("runs/bench"),
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Measure every backend side by side on the same images, each in its own process, by one clock."""
    from quillrt.benchmarks.bench import bench as run
    from quillrt.benchmarks.entrants import Rows
    from quillrt.benchmarks.images import choose_images
    from quillrt.benchmarks.presets import preset as preset_of
    from quillrt.benchmarks.report import (
        ANSWER_COLUMNS,
        COLUMNS,
        COST_COLUMNS,
        LAYER_COLUMNS,
        SERVED_COLUMNS,
        answer_cells,
        cells,
        conditions,
        cost_cells,
        layer_cells,
        notes,
        outcomes,
        served_cells,
    )
    from quillrt.benchmarks.roofline_report import ROOFLINE_COLUMNS, roofline_cells
    from quillrt.benchmarks.running import Settings
    from quillrt.benchmarks.scaling_report import scaling_tables
    from quillrt.benchmarks.scenarios import scenario_of
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.errors import BackendUnavailable

    effort = preset_of(preset)
    chosen = Rows(
        backends=backend or (),
        options=provider_options(provider_option),
        variants=variant_options(variant),
        offered=effort.variants,
        cuda_graphs=cuda_graph or effort.cuda_graphs,
        images=images or effort.images,
        peers=peer or effort.peers,
        on_gpu=effort.on_gpu,
        roofline=roofline or effort.roofline,
        sweeps=tuple(dict.fromkeys(sweep or ())),
        preset=preset,
    )
    turns = rounds or effort.rounds
    settings = Settings(
        batches=tuple(batch or effort.batches or scenario_of(scenario).batches),
        seconds=seconds or effort.seconds,
        rounds=turns,
        threads=threads or Settings.threads,
        device=device,
        layers=layers,
        scenario=scenario,
        builds=builds or min(effort.builds, turns),
        latency_bound_ms=latency_bound_ms,
        seed=seed,
        checked_queries=effort.checked_queries,
    )
    if settings.builds == 2:
        note("intervals over two builds are wide, for two sessions tell little: give --builds 3 or more", quiet)
    opened = Bundle.open(bundle.path)
    manifest = opened.manifest
    source, pictures = choose_images(manifest.training, manifest.model.preprocessing, dataset, data_root, part)
    result = run(
        opened,
        checkpoint.path if checkpoint else None,
        pictures,
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
        for line in result.warnings:
            typer.echo(f"warning: {line}")
        _print_wide(f"Latency of {bundle.path.name}, host memory to host memory", COLUMNS, cells(result.rows))
        for title, columns, lines in scaling_tables(result):
            _print_wide(title, columns, lines)
        _print_wide("Arrivals at random", SERVED_COLUMNS, served_cells(result.rows))
        _print_wide("Answers", ANSWER_COLUMNS, answer_cells(result.rows))
        _print_wide("Costs", COST_COLUMNS, cost_cells(result.rows))
        _print_wide("Under the roof of this machine", ROOFLINE_COLUMNS, roofline_cells(result.rows))
        for row in result.rows:
            if row.measured and row.measured.layers:
                print_table(f"Layers of {row.name}, batch {row.batch}", LAYER_COLUMNS, layer_cells(row.measured))
        for line in (*outcomes(result), *notes(result.rows), *conditions(result)):
            typer.echo(line)
    written = [name for name in ("result.json", "result.md", "latency.png", "log.txt") if (output / name).exists()]
    note(f"written: {', '.join(written)} in {output}", quiet)


def _print_wide(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table in parts that fit a terminal of 80 columns, row name and batch at the start of each."""
    for start in range(2, len(columns), 4) if rows else ():
        some = (0, 1, *range(start, min(start + 4, len(columns))))
        said = title if start == 2 else f"{title}, continued"
        print_table(said, [columns[i] for i in some], [[row[i] for i in some] for row in rows])
