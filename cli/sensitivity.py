"""The verb sensitivity: which nodes INT8 hurts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.options import (
    Cached,
    Config,
    DataRoot,
    Debug,
    Json,
    ModelDataset,
    Quiet,
    Seed,
    cache_of,
    check_output,
    config_beside,
    save_config,
)
from quillrt.cli.source_options import (
    Calibration,
    Denoise,
    Fit,
    Labels,
    Mean,
    Method,
    Percentile,
    Samples,
    SourceFile,
    Std,
    images_of,
    load,
)

if TYPE_CHECKING:
    from quillrt.compile.sensitivity import Effect


def sensitivity(
    ctx: typer.Context,
    source: SourceFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write (.png).")] = Path(
        "runs/sensitivity.png"
    ),
    target: Annotated[
        str, typer.Option("--target", help="Whose INT8: onnxruntime-cpu, openvino, tensorrt or tensorrt-rtx.")
    ] = "onnxruntime-cpu",
    images: Annotated[
        int, typer.Option("--images", min=1, help="Validation images to judge by, the first ones.")
    ] = 1000,
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    calibration: Calibration = None,
    method: Method = "minmax",
    percentile: Percentile = 99.999,
    samples: Samples = None,
    labels: Labels = None,
    mean: Mean = None,
    std: Std = None,
    fit: Fit = None,
    denoise: Denoise = None,
    seed: Seed = 0,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Quantize each node alone, and all but it, and rank them by what that does to real images."""
    import numpy as np

    from quillrt.calibration.methods import Method as Finder
    from quillrt.calibration.table import CalibrationTable
    from quillrt.compile.answers import Answers
    from quillrt.compile.config import CompileConfig
    from quillrt.compile.graphs import recipe_for
    from quillrt.compile.ranges import calibrate_source
    from quillrt.compile.sensitivity import analyse, plot_sensitivity

    check_output(output, ".png")
    recipe = recipe_for(target)
    table = None if calibration is None else CalibrationTable.load(calibration)
    note(f"exporting {source}", quiet)
    loaded = load(source.path, labels, mean, std, fit, denoise)
    data = images_of(loaded, dataset, data_root)
    if table is None:
        settings = CompileConfig(method=Finder(method, percentile), samples=samples, seed=seed)
        table = calibrate_source(loaded, data, settings, tracker(quiet), cache_of(cached))
    judges = data.validation.take(np.arange(min(images, len(data.validation))))
    answers = Answers(loaded.graph, loaded.spec, judges, cache_of(cached))
    found = analyse(loaded, table, recipe, answers, tracker(quiet))
    title = f"{source}: INT8 for {target}, {table.origin}; {found.n} validation images"
    plot_sensitivity(output, found, title.replace("; ", "\n"))
    save_config(ctx, config_beside(output))
    if as_json:
        print_json({"path": str(output), "target": target, "calibration": table.fingerprint, **asdict(found)})
        return
    rows = [(each.node, each.op_type, *_figures(each.alone), *_figures(each.without)) for each in found.nodes]
    rows.append(("all", "", *_figures(found.whole), "", ""))
    columns = ("node", "operator", "alone: drop (points)", "error", "all but it: drop", "error")
    print_table(f"{title}; FP32 has {found.accuracy:.2%}", columns, rows)
    for each in found.others:
        note(f"{each.name} stays in FP32: {each.reason}", quiet)
    note(f"wrote {output}", quiet)


def _figures(effect: Effect) -> tuple[str, str]:
    return f"{effect.drop:+.2f}", f"{100 * effect.error:.2f} %"
