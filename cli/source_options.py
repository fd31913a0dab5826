"""What calibrate and compile have in common: the model, what is said of an ONNX file, and how ranges are found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.model_files import ModelFile, checkpoint_file
from quillrt.runtime.errors import ConfigError

if TYPE_CHECKING:
    from quillrt.compile.ranges import Images
    from quillrt.compile.source import Source

SourceFile = Annotated[
    ModelFile,
    typer.Argument(
        metavar="SOURCE", parser=checkpoint_file, help="A checkpoint (.safetensors), models:NAME or an ONNX file."
    ),
]
Labels = Annotated[str | None, typer.Option("--labels", help="For an ONNX file: its classes, as in A,B,C.")]
Mean = Annotated[float | None, typer.Option("--mean", help="For an ONNX file: (pixel / 255 - mean) / std. Default: 0.")]
Std = Annotated[float | None, typer.Option("--std", help="For an ONNX file: (pixel / 255 - mean) / std. Default: 1.")]
Fit = Annotated[
    str | None,
    typer.Option("--fit", help="For an ONNX file: character (as MNIST was made; the default), emnist or resize."),
]
Denoise = Annotated[
    list[str] | None,
    typer.Option("--denoise", help="For an ONNX file: median, gaussian, otsu or levels; repeat, in their order."),
]
Method = Annotated[str, typer.Option("--method", help="minmax, moving-average, percentile, entropy or mse.")]
Percentile = Annotated[float, typer.Option("--percentile", help="For --method percentile: share of values kept.")]
Samples = Annotated[
    int | None,
    typer.Option("--samples", min=1, help="Images that calibrate, drawn by class. Default: 512, or all there are."),
]
Calibration = Annotated[Path | None, typer.Option("--calibration", help="A table of quillrt calibrate.")]
RandomData = Annotated[
    bool, typer.Option("--random-data", help="Calibrate on noise, to try engines out; table and bundle say so.")
]


def load(
    source: Path,
    labels: str | None,
    mean: float | None,
    std: float | None,
    fit: str | None,
    denoise: list[str] | None,
) -> Source:
    """Return the model to compile, with what a user said of an ONNX file."""
    from quillrt.compile.source import load_source
    from quillrt.runtime.preprocessing import Preprocessing

    settings = {"mean": mean, "std": std, "fit": fit, "denoise": tuple(denoise) if denoise else None}
    given = {key: value for key, value in settings.items() if value is not None}
    names = None if labels is None else tuple(label.strip() for label in labels.split(","))
    if names is not None and not (all(names) and len(set(names)) == len(names)):
        raise ConfigError(f"expected different names between commas, such as --labels A,B,C, found {labels!r}")
    return load_source(source, names, Preprocessing(**given) if given else None)  # type: ignore[arg-type]


def images_of(source: Source, dataset: str | None, data_root: Path | None) -> Images:
    """Return the training and validation images of the data set named, or else of the one it was trained on."""
    from quillrt.compile.ranges import Images
    from quillrt.train.datasets import load_dataset_for, public_name

    training = source.checkpoint.training if source.checkpoint else {}
    name, splits = load_dataset_for(source.spec, training, dataset, data_root)
    return Images(public_name(name), splits.train, splits.validation)
