"""The verb that reads a page: read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, print_json
from quillrt.cli.model_files import ModelFile, bundle_file
from quillrt.cli.options import Backend, Config, Debug, Json, PrecisionName, Quiet, Threads, check_output, precision_of

if TYPE_CHECKING:
    from quillrt.runtime.reading import Character, Reading


def read(
    page: Annotated[Path, typer.Argument(help="Image file with one line of handwriting or several, or - for stdin.")],
    model: Annotated[
        ModelFile, typer.Option("--model", parser=bundle_file, help="A .quill bundle, or models:NAME.")
    ] = "models:digits",  # type: ignore[assignment]  # the parser makes it one
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="Write the page with boxes and answers to this .png.")
    ] = None,
    backend: Backend = None,
    precision: PrecisionName = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels per character, for --json.")] = 1,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Read nothing below this probability.")
    ] = 0.0,
    reject: Annotated[
        bool, typer.Option("--reject/--no-reject", help="Read no mark that the bundle's threshold takes for none.")
    ] = True,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Read a page: prints its lines, spaces at wide gaps and ? for what is not read."""
    from quillrt.runtime.annotation import annotate as draw
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.channels import open_channels
    from quillrt.runtime.files import bounded, written_whole
    from quillrt.runtime.images import MOST_BYTES
    from quillrt.runtime.reading import LONGEST, read_page
    from quillrt.runtime.select import open_fitting
    from quillrt.runtime.session import SessionOptions

    if annotate is not None:
        check_output(annotate, ".png", page)
    is_stdin = str(page) == "-"
    source, name = (bounded(sys.stdin.buffer, MOST_BYTES, "stdin"), "stdin") if is_stdin else (page, str(page))
    image = open_channels(source, name, LONGEST)
    bundle = Bundle.open(model.path)
    session, entry, chosen = open_fitting(bundle, backend, precision_of(precision), SessionOptions(threads))
    with session:
        reading = read_page(session, image, bundle.manifest.confidence, top_k)
    if annotate is not None:
        with written_whole(annotate) as beside:
            draw(image, reading, min_confidence, reject=reject).save(beside)
    if as_json:
        head = {"image": name, "bundle": str(model), "file": entry.path, "backend": chosen}
        print_json({**head, "size": list(image.size), **_to_json(reading, min_confidence, reject=reject)})
    else:
        sys.stdout.write(reading.text(min_confidence, reject=reject) + "\n" * bool(reading.lines))
    if not reading.lines:
        note(f"{name}: no characters found", quiet)
    if reading.touching:
        note(f"{name}: {reading.touching} marks look like characters that touch: not read", quiet)


def _to_json(reading: Reading, least: float, *, reject: bool) -> dict[str, Any]:
    from quillrt.runtime.reading import line_text

    return {
        "text": reading.text(least, reject=reject),
        "touching": reading.touching,
        "lines": [
            {
                "text": line_text(line, least, reject=reject),
                "characters": [_character(each, least, reject=reject) for each in line],
            }
            for line in reading.lines
        ],
    }


def _character(character: Character, least: float, *, reject: bool) -> dict[str, Any]:
    doubt = character.doubt(least, reject=reject)
    return {
        "answer": None if doubt else character.prediction.label,
        "doubt": doubt,
        "box": list(character.box),
        "after_space": character.after_space,
        "touching": character.touching,
        "top": [{"label": label, "probability": share} for label, share in character.prediction.top],
    }
