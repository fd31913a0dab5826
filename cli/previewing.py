"""The verb that shows what a network sees: preview."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import note, print_json
from quillrt.cli.options import (
    Config,
    DataRoot,
    Dataset,
    Debug,
    Json,
    Quiet,
    Seed,
    check_output,
    config_beside,
    save_config,
)
from quillrt.cli.training_options import AUGMENT, DENOISE, SIZE, VARY


def preview(
    ctx: typer.Context,
    dataset: Dataset = "digits",
    data_root: DataRoot = None,
    size: SIZE = 28,
    denoise: DENOISE = None,
    augment: AUGMENT = "strong",
    vary: VARY = None,
    images: Annotated[int, typer.Option("--images", min=1, max=1000, help="Training images, by class in turn.")] = 10,
    draws: Annotated[int, typer.Option("--draws", min=1, max=100, help="Variations of each.")] = 9,
    seed: Seed = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write, .png.")] = Path("runs/preview.png"),
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Draw a contact sheet of what the network sees: training images and how an augmentation varies them."""
    from quillrt.runtime.preprocessing import Preprocessing
    from quillrt.train.contact_sheet import contact_sheet
    from quillrt.train.datasets import load_dataset, public_name
    from quillrt.train.policies import policy
    from quillrt.train.preview import varied

    check_output(output, ".png")
    amounts = policy(augment, vary or ())
    splits = load_dataset(dataset, data_root, Preprocessing(height=size, width=size, denoise=tuple(denoise or ())))
    sheet, captions = varied(splits, amounts, images, draws, seed)
    how = ", ".join([augment, *(vary or ())])
    title = f"{public_name(dataset)}, training part: first as it is, then varied: {how}"
    contact_sheet(output, sheet, captions, columns=1 + draws, title=title)
    save_config(ctx, config_beside(output))
    if as_json:
        print_json({"path": str(output), "images": images, "draws": draws})
        return
    note(f"wrote {output}", quiet)
