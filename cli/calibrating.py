"""The verb calibrate: ranges of activations, as a table."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import print_json, print_table, tracker
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
    given_options,
    save_config,
)
from quillrt.cli.source_options import (
    Denoise,
    Fit,
    Labels,
    Mean,
    Method,
    Percentile,
    RandomData,
    Samples,
    SourceFile,
    Std,
    images_of,
    load,
)


def calibrate(
    ctx: typer.Context,
    source: SourceFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table to write.")] = Path("runs/calibration.json"),
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    labels: Labels = None,
    mean: Mean = None,
    std: Std = None,
    fit: Fit = None,
    denoise: Denoise = None,
    method: Method = "minmax",
    percentile: Percentile = 99.999,
    samples: Samples = None,
    random_data: RandomData = False,
    foreign: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Take the ranges of another tool: TensorRT's .cache or onnxruntime's .flatbuffers."
        ),
    ] = None,
    exports: Annotated[
        list[Path] | None, typer.Option("--export", help="Write the ranges for another tool, too; the same endings.")
    ] = None,
    seed: Seed = 0,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Collect the ranges of a model's activations on real training images."""
    from quillrt.calibration.formats import check_format, export, imported
    from quillrt.calibration.methods import Method
    from quillrt.compile.config import CompileConfig
    from quillrt.compile.ranges import calibrate_source
    from quillrt.runtime.errors import ConfigError

    check_output(output, ".json")
    for path in exports or ():
        check_format(path)
    if method != "percentile" and given_options(ctx, "percentile"):
        raise ConfigError(f"expected --method percentile beside --percentile, found {method}; leave one out")
    loaded = load(source.path, labels, mean, std, fit, denoise)
    if foreign is not None:
        _check_alone(ctx)
        table = imported(foreign, loaded.graph, loaded.spec)
    else:
        settings = CompileConfig(method=Method(method, percentile), samples=samples, random_data=random_data, seed=seed)
        images = None if random_data else images_of(loaded, dataset, data_root)
        table = calibrate_source(loaded, images, settings, tracker(quiet), cache_of(cached))
    table.save(output)
    for path in exports or ():
        export(table, path)
    save_config(ctx, config_beside(output))
    if as_json:
        print_json({"path": str(output), "fingerprint": table.fingerprint, **asdict(table)})
        return
    rows = []
    for name, (low, high) in table.ranges.items():
        seen = table.observed.get(name)
        values = ("", "", "") if seen is None else (f"{seen.lowest:.4g}", f"{seen.highest:.4g}", _bars(seen.counts))
        rows.append((name, f"{low:.4g}", f"{high:.4g}", *values))
    columns = ("tensor", "range from", "to", "seen from", "to", "values, logarithmic")
    print_table(f"{output}: {table.origin}", columns, rows)


def _check_alone(ctx: typer.Context) -> None:
    """Raise where something beside ``--from`` is asked for that only a calibration of our own does.

    Raises:
        ConfigError: it is.
    """
    from quillrt.runtime.errors import ConfigError

    words = given_options(ctx, "method", "percentile", "samples", "random_data")
    found = ", ".join(word for word in words if word.startswith("--"))
    if found:
        raise ConfigError(f"expected --from alone, whose ranges are found, not {found} too; leave that out")


def _bars(counts: tuple[int, ...]) -> str:
    """Return a bar for each count, by its logarithm: the far ends are what calibration is about."""
    top = math.log1p(max(counts)) or 1.0
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * math.log1p(count) / top)] for count in counts)
