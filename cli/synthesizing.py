"""The verb that makes images: synthesize."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.options import Dataset, save_config
from quillrt.cli.training_options import options
from quillrt.cli.verbs import with_options
from quillrt.train.gan_config import GanConfig

if TYPE_CHECKING:
    from quillrt.runtime.imageset import ImageSet

_LIKE_TRAIN = ("data_root", "classes", "lr", "seed", "device", "threads", "as_json", "quiet", "config", "debug")
_SHARED = options(lr=GanConfig.lr, seed=GanConfig.seed, device=GanConfig.device)


@with_options({name: _SHARED[name] for name in _LIKE_TRAIN})
def synthesize(
    ctx: typer.Context,
    dataset: Dataset = "digits",
    size: Annotated[
        int,
        typer.Option(
            "--size", help="Rows and columns of a folder's images, a multiple of 4 from 16 to 64; others have theirs."
        ),
    ] = 28,
    per_class_real: Annotated[
        int | None,
        typer.Option("--per-class-real", min=1, help="Learn from this many training images of each class only."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=99_999, help="Images of each class to make.")] = 100,
    steps: Annotated[int, typer.Option("--steps", help="Updates of either network.")] = GanConfig.steps,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Real images per step, and generated ones; even.")
    ] = GanConfig.batch_size,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder for the images; default in runs/.")
    ] = None,
    **chosen: Any,
) -> None:
    """Train a conditional GAN on a data set's training part, and write new labelled images with it."""
    settings = GanConfig(**{field.name: ctx.params[field.name] for field in fields(GanConfig)})
    quiet, seed = chosen["quiet"], settings.seed
    import torch

    from quillrt.runtime.files import check_free
    from quillrt.runtime.preprocessing import Preprocessing
    from quillrt.train.datasets import load_dataset, public_name
    from quillrt.train.gan import train_gan
    from quillrt.train.splitting import per_class
    from quillrt.train.synthetic import write_synthetic

    name = public_name(dataset)
    folder = output or Path("runs", f"{name.removeprefix('folder:')}-synthetic")
    check_free(folder)
    if threads := chosen["threads"]:
        torch.set_num_threads(threads)
    splits = load_dataset(dataset, chosen["data_root"], Preprocessing(height=size, width=size))
    if chosen["classes"] is not None:
        splits = splits.only([label.strip() for label in chosen["classes"].split(",")])
    real = splits.train if per_class_real is None else per_class(splits.train, per_class_real, seed)
    note(f"learning from {len(real):,} training images of {len(real.classes)} classes", quiet)
    gan = train_gan(real, settings, tracker(quiet))
    images = gan.draw(count, seed)
    title = f"synthetic {name}: learned from {len(real):,} images in {settings.steps:,} steps, seed {seed}"
    write_synthetic(folder, images, _record(name, real, per_class_real, count, settings, gan.seconds), title)
    save_config(ctx, folder / "synthetic.toml")
    said = {
        "path": str(folder),
        "images": len(images),
        "classes": len(images.classes),
        "real_images": len(real),
        "seconds": gan.seconds,
    }
    if chosen["as_json"]:
        print_json(said)
        return
    columns = ("folder", "images", "classes", "learned from", "training s")
    row = (str(folder), f"{len(images):,}", f"{len(images.classes)}", f"{len(real):,}", f"{gan.seconds:.1f}")
    print_table(f"synthetic {name}", columns, [row])


def _record(
    name: str, real: ImageSet, per_class_real: int | None, count: int, settings: GanConfig, seconds: float
) -> dict[str, Any]:
    """Return what the set tells of itself; no path of this machine is in it."""
    import torch

    from quillrt.runtime.versions import versions
    from quillrt.train.synthetic import fingerprint

    return {
        "dataset": name,
        "classes": list(real.classes),
        "count": count,
        "size": list(real.images.shape[1:]),
        "real": {"part": "train", "images": len(real), "per_class": per_class_real, "sha256": fingerprint(real)},
        "config": asdict(settings),
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "versions": versions("quillrt", "torch", "numpy"),
    }
