"""The verb verify: whether the files of a bundle agree, by their answers or layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.model_files import BundleFile, ModelFile, checkpoint_file
from quillrt.cli.options import Config, DataRoot, Debug, Json, ModelDataset, Quiet
from quillrt.runtime.errors import ConfigError

if TYPE_CHECKING:
    from quillrt.compile.verify import Verdict
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.imageset import ImageSet

_LAYER_IMAGES = 64


def verify(
    bundle: BundleFile,
    dataset: ModelDataset = None,
    data_root: DataRoot = None,
    part: Annotated[str, typer.Option("--part", help="train, validation, test or all.")] = "test",
    max_drop: Annotated[
        float,
        typer.Option(
            "--max-drop",
            min=0,
            help="Points of accuracy that a file may lose; more is a fault where McNemar's p < 0.05, so that it is "
            "not chance.",
        ),
    ] = 0.5,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", help="Run this one too, though it runs code out of the bundle: pytorch, pytorch-aot."
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare the graphs layer by layer, and name the first that strays.")
    ] = False,
    reference: Annotated[
        str, typer.Option("--reference", help="For --layers: fp32, eager, or what stands before .onnx, as int8.cpu.")
    ] = "fp32",
    against: Annotated[
        list[str] | None, typer.Option("--against", help="For --layers: what is compared; repeat. Default: all graphs.")
    ] = None,
    checkpoint: Annotated[
        ModelFile | None,
        typer.Option("--checkpoint", parser=checkpoint_file, help="For --layers: the checkpoint that eager runs."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0,
            help="For --layers: root mean square of the difference, as a share of the "
            "values'. Default by precision: 0.0001 (fp32), 0.01 (fp16), 0.08 (bf16), 0.2 (int8, mixed, fp8).",
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="For --layers: how many.")] = _LAYER_IMAGES,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="PUB.pem", help="First check that the bundle is signed for this public key."),
    ] = None,
    signature_only: Annotated[
        bool, typer.Option("--signature-only", help="Check the signature and every sha256, and run nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Compare every file of a bundle that runs here with its FP32 graph on real images; exit 1 if one is at fault."""
    from quillrt.runtime.bundle import Bundle

    if signature_only and key is None:
        raise ConfigError("expected --key PUB.pem beside --signature-only, found none; add it")
    opened = Bundle.open(bundle.path, key)
    if key is not None:
        note(f"{bundle}: signed for {key}, and every file in it is as it was then", quiet)
    if signature_only:
        if as_json:
            print_json({"bundle": str(bundle), "sha256": opened.sha256, "signed_for": str(key)})
        return
    import numpy as np

    from quillrt.compile import verify as verification
    from quillrt.runtime.backends import BY_NAME
    from quillrt.runtime.errors import AccuracyError
    from quillrt.train.datasets import load_dataset_for

    if not layers and (reference, against, checkpoint, tolerance, images) != ("fp32", None, None, None, _LAYER_IMAGES):
        raise ConfigError(
            "expected --layers beside --reference, --against, --checkpoint, --tolerance and --images, found none; "
            "add it"
        )
    if strange := sorted(set(backend or ()) - set(BY_NAME)):
        raise ConfigError(
            f"expected --backend out of {', '.join(BY_NAME)}, found {', '.join(strange)}; the others run unasked"
        )
    manifest = opened.manifest
    name, splits = load_dataset_for(manifest.model, manifest.training, dataset, data_root)
    chosen = splits.part(part)
    if layers:
        some = chosen.take(np.arange(min(images, len(chosen))))
        _verify_layers(opened, some, reference, against or [], checkpoint, tolerance, as_json=as_json)
        return
    verdicts = verification.verify(opened, chosen, max_drop, tracker(quiet), backend or ())
    if as_json:
        print_json([asdict(v) for v in verdicts])
    else:
        print_verdicts(f"{bundle}: on the {part} part of {name}", verdicts)
    faults = [f"{v.path} on {v.backend}: {v.fault}" for v in verdicts if v.fault]
    if faults:
        raise AccuracyError(f"expected every file to keep the FP32 graph's accuracy, but {'; '.join(faults)}")


def _verify_layers(
    bundle: Bundle,
    images: ImageSet,
    reference: str,
    against: Sequence[str],
    checkpoint: ModelFile | None,
    tolerance: float | None,
    *,
    as_json: bool,
) -> None:
    from quillrt.benchmarks.bench import check_checkpoint
    from quillrt.compile.layers import compared, first_beyond, forms, operators, outputs_of, tolerance_of
    from quillrt.runtime.errors import AccuracyError, BackendUnavailable
    from quillrt.runtime.preprocessing import fit_images, normalize
    from quillrt.train.checkpoint import load_checkpoint

    spec, graphs = bundle.manifest.model, forms(bundle)
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ConfigError(f"expected a --tolerance of 0 or more, found {tolerance}")
    if checkpoint is not None:
        check_checkpoint(bundle, checkpoint.path)
    eager = None if checkpoint is None else load_checkpoint(checkpoint.path)
    batch = normalize(fit_images(images, spec.preprocessing), spec.preprocessing, spec.channels)
    expected = outputs_of(reference, graphs, eager, batch)
    found, strays = {}, []
    for form in against or [form for form in graphs if form != reference]:
        try:
            errors = compared(expected, outputs_of(form, graphs, eager, batch), operators(graphs))
        except BackendUnavailable as error:
            if form in against:
                raise
            typer.echo(f"not run here: {form}: {error}", err=True)
            continue
        if not errors:
            raise AccuracyError(f"expected layers that {form} and {reference} have in common, found none to compare")
        limit = max(map(tolerance_of, (reference, form))) if tolerance is None else tolerance
        first = first_beyond(errors, limit)
        found[form] = {"tolerance": limit, "first_beyond": first and first.node, "layers": [asdict(e) for e in errors]}
        if first is not None:
            strays.append(f"{form} strays from {reference} at {first.node} first, by {first.error:.2g} (of {limit:g})")
        if not as_json:
            title = f"{form} against {reference}, {len(batch)} images; tolerance {limit:g}"
            rows = [
                (e.node, e.op_type, f"{e.error:.2g}", f"{e.largest:.2g}", "" if e.error <= limit else "beyond")
                for e in errors
            ]
            print_table(title, ("layer", "operator", "error (share of the values)", "largest |Δ|", ""), rows)
    if as_json:
        print_json(found)
    if strays:
        raise AccuracyError(
            f"expected every layer within its tolerance, but {'; '.join(strays)}; "
            "compile with --exclude LAYER, another --method, or give more --tolerance"
        )


def print_verdicts(title: str, verdicts: tuple[Verdict, ...]) -> None:
    """Print a row for each file and backend, and why some did not run."""
    columns = ("file", "backend", "accuracy", "drop (points)", "McNemar p", "agreement", "largest |Δ logit|", "n", "")
    print_table(title, columns, [_row(v) for v in verdicts])
    for backend, reason in dict.fromkeys((v.backend, v.reason) for v in verdicts if v.reason):
        typer.echo(f"not run here: {backend}: {reason}")


def _row(v: Verdict) -> tuple[str, ...]:
    if not v.n:
        return (v.path, v.backend, "", "", "", "", "", "", "not run here")
    figures = (f"{100 * v.accuracy:.2f} %", f"{v.drop:+.2f}", f"{v.p:.2g}", f"{100 * v.agreement:.2f} %")
    return (v.path, v.backend, *figures, f"{v.max_difference:.2g}", str(v.n), v.fault or "ok")


def print_parity(bundle: Bundle) -> None:
    """Print how the graphs differ as they stand, those for engines that do not run here too, from the report."""
    import json

    found = json.loads(bundle.files["report.json"])["parity"]
    reference = "eager" if any("eager" in row for row in found) else "fp32"
    rows = []
    for row in found:
        figures = ("", "", "", "")
        if difference := row.get(reference):
            error, agreement = f"{difference['error']:.2g} of {row['tolerance']:g}", f"{difference['agreement']:.2%}"
            figures = (f"{difference['max']:.2g}", f"{difference['mean']:.2g}", error, agreement)
        rows.append((f"model.{row['form']}.onnx", *figures, row["reason"][:80]))
    title = f"the graphs as they stand, without an engine's optimizations, against {reference}"
    print_table(title, ("graph", "largest |Δ logit|", "mean |Δ logit|", "error, tolerance", "agreement", ""), rows)
