"""The verb that shows how a photograph is prepared: explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import note, print_json, shown
from quillrt.cli.model_files import ModelFile, bundle_file
from quillrt.cli.options import Backend, Config, Debug, Json, PrecisionName, Quiet, check_output, precision_of


def explain(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    model: Annotated[
        ModelFile, typer.Option("--model", parser=bundle_file, help="A .quill bundle, or models:NAME.")
    ] = "models:digits",  # type: ignore[assignment]  # the parser makes it one
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write, .png.")] = Path(
        "runs/explained.png"
    ),
    backend: Backend = None,
    precision: PrecisionName = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels.")] = 3,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Draw how a photograph becomes what the network sees, stage by stage, and what the network makes of it."""
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.channels import open_channels
    from quillrt.runtime.explanation import explain as draw
    from quillrt.runtime.files import written_whole
    from quillrt.runtime.photo import LONGEST, look
    from quillrt.runtime.predict import predict_prepared
    from quillrt.runtime.prepare import PHOTO, Prepared, fit_photo
    from quillrt.runtime.select import open_fitting

    check_output(output, ".png", image)
    original = open_channels(image, str(image), LONGEST)
    bundle = Bundle.open(model.path)
    session, _, _ = open_fitting(bundle, backend, precision_of(precision))
    photo = look(original)
    with session:
        prepared = Prepared(fit_photo(photo, session.spec.preprocessing), PHOTO, photo.trouble)
        (found,) = predict_prepared(session, [(str(image), prepared)], top_k, confidence=bundle.manifest.confidence)
    with written_whole(output) as beside:
        draw(original, photo, prepared.fitted, found).save(beside)
    top = [{"label": label, "probability": share} for label, share in found.top]
    if as_json:
        box = None if photo.box is None else list(photo.box)
        answer = found.label if found.is_character else None
        print_json(
            {
                "image": str(image),
                "path": str(output),
                "answer": answer,
                "size": list(original.size),
                "box": box,
                "top": top,
            }
        )
        return
    answers = "  ".join(f"{label} {share:.4f}" for label, share in found.top)
    typer.echo(f"{shown(str(image))}  {answers if found.is_character else f'no character ({answers})'}")
    note(f"wrote {output}", quiet)
