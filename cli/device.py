"""Verbs that a device needs: run and inspect."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, phase_bars, print_json, print_table
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import (
    Backend,
    Cached,
    Config,
    CudaGraph,
    Debug,
    Json,
    PrecisionName,
    ProviderOption,
    Quiet,
    Threads,
    cache_of,
    precision_of,
    provider_options,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.confidence import Confidence
    from quillrt.runtime.predict import Prediction


def run(
    bundle: BundleFile,
    images: Annotated[list[Path], typer.Argument(help="Image files, folders of them, or - for one image on stdin.")],
    backend: Backend = None,
    precision: PrecisionName = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels per image.")] = 1,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Answer 'unsure' below this probability.")
    ] = 0.0,
    reject: Annotated[
        bool, typer.Option("--reject/--no-reject", help="Answer 'no character' where the bundle's threshold says so.")
    ] = True,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536, help="Images per query.")] = 64,
    threads: Threads = None,
    provider_option: ProviderOption = None,
    cuda_graph: CudaGraph = False,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Recognize the character in each image: prints file, label and probability."""
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.predict import predict
    from quillrt.runtime.select import open_fitting
    from quillrt.runtime.session import SessionOptions

    options = SessionOptions(threads, cuda_graph=cuda_graph, provider_options=provider_options(provider_option))
    opened = Bundle.open(bundle.path)
    with phase_bars(quiet) as phases:
        session, entry, chosen = open_fitting(
            opened,
            backend,
            precision_of(precision),
            options,
            cache_of(cached),
            phases,
            lambda line: note(line, quiet),
        )
    with session:
        confidence = opened.manifest.confidence
        predictions = list(predict(session, _read(images), top_k, batch_size, confidence))
    doubts = [_doubt(p, min_confidence, reject=reject) for p in predictions]
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "file": entry.path,
                "backend": chosen,
                "predictions": [
                    {
                        "image": p.name,
                        "answer": None if doubt else p.label,
                        "doubt": doubt,
                        "top": [{"label": label, "probability": share} for label, share in p.top],
                    }
                    for p, doubt in zip(predictions, doubts, strict=True)
                ],
            }
        )
        return
    note(f"{entry.path} on {chosen}", quiet)
    for p, doubt in zip(predictions, doubts, strict=True):
        answers = "  ".join(f"{label} {share:.4f}" for label, share in p.top)
        sys.stdout.write(f"{p.name}  {f'{doubt} ({answers})' if doubt else answers}\n")


def _doubt(prediction: Prediction, least: float, *, reject: bool) -> str:
    """Return why there is no answer, nothing if there is one."""
    if reject and not prediction.is_character:
        return "no character"
    return "unsure" if prediction.probability < least else ""


def _read(paths: list[Path]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    from quillrt.runtime.images import find_images, read_image

    for path in paths:
        if str(path) == "-":
            yield "-", read_image(sys.stdin.buffer.read(), "stdin")
            continue
        for file in find_images([path]):
            yield str(file), read_image(file)


def inspect(
    bundle: BundleFile,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Show which nodes INT8 computes, and why it leaves the others.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check every sha256 of a bundle and show what it holds, and what of it works here."""
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.select import why_not

    opened = Bundle.open(bundle.path)
    manifest = opened.manifest
    if nodes:
        _show_nodes(opened, as_json)
        return
    here = {e.path: {name: why_not(e, name) for name in e.backends} for e in manifest.entries if e.backends}
    if as_json:
        print_json({"sha256": opened.sha256, **manifest.to_json(), "here": here})
        return
    rows = [
        (
            e.path,
            e.precision.value if e.precision else "",
            ", ".join(e.backends),
            ", ".join(e.typed_for),
            _products(e.built_for),
            f"{e.size / 1024:,.0f}",
            _accuracy(e.measured),
        )
        for e in manifest.entries
    ]
    model = manifest.model
    title = (
        f"{bundle.path.name}: {model.input.name} {model.input.text()} -> {model.output.name} {model.output.text()}; "
        f"labels {' '.join(model.labels)}; {model.preprocessing}"
    )
    print_table(
        title, ("file", "precision", "runs on", "builds for", "products built in", "KiB", "validation accuracy"), rows
    )
    for e in manifest.entries:
        if fits := e.built_for.get("compute_capabilities"):
            (family, reason), *_ = here[e.path].items()
            built = f"{family} {e.built_for.get('tensorrt', '')} on SM {', '.join(fits)}"
            typer.echo(f"{e.path} is for {built}{_how(e.built_for)}; here: {reason or 'fits'}")
    for line in _confidence(manifest.confidence):
        typer.echo(line)
    for origin in dict.fromkeys(e.calibrated for e in manifest.entries if e.calibrated):
        typer.echo(f"INT8 ranges: {origin}")


def _show_nodes(bundle: Bundle, as_json: bool) -> None:
    """Print what the compiler decided on each node.

    Raises:
        BundleError: the report lacks, or is none.
    """
    import json

    from quillrt.runtime.errors import BundleError

    try:
        decisions = json.loads(bundle.files["report.json"])["nodes"]
        rows = [
            (path, node["name"], node["op_type"], "int8" if node["quantized"] else "fp32", node["reason"])
            for path, found in decisions.items()
            for node in found
        ]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"expected a report of the compiler in {bundle.path}, found none; compile again") from error
    if as_json:
        print_json(decisions)
        return
    print_table(f"{bundle.path.name}: convolutions and products", ("file", "node", "operator", "computes in", ""), rows)


def _confidence(confidence: Confidence) -> list[str]:
    """Return the temperature, and what the threshold turns away, where the bundle says so."""
    measured = confidence.measured
    if not measured:
        return []
    lines = [f"confidence: temperature {confidence.temperature:g} (n = {measured['n']:,})"]
    if confidence.least_energy is not None:
        lost, taken = measured["characters_turned_away"], measured["taken_for_characters"]
        others = ", ".join(f"{name} {100 * found['share']:.1f} % of {found['n']:,}" for name, found in taken.items())
        lines.append(
            f"no character: {100 * lost['share']:.1f} % of {lost['n']:,} characters are turned away; "
            f"taken for characters all the same: {others}"
        )
    return lines


def _how(built_for: Mapping[str, Any]) -> str:
    """Return the options that an engine was built with, where they are not the defaults."""
    options = built_for.get("options", {})
    return f", built with {', '.join(f'{name} {value}' for name, value in options.items())}" if options else ""


def _products(built_for: Mapping[str, Any]) -> str:
    """Return how many products were built in each datatype, and their share of the multiply-adds."""
    kernels = "; ".join(
        f"{backend}: {_products(found)}, reformats × {found.get('reformats', 0)}"
        for backend, found in built_for.get("kernels", {}).items()
    )
    macs = built_for.get("macs", {})
    whole = sum(macs.values())
    shares = {kind: f" ({100 * count / whole:.0f} % of MACs)" for kind, count in macs.items() if whole}
    return kernels or ", ".join(
        f"{kind} × {n}{shares.get(kind, '')}" for kind, n in built_for.get("products", {}).items()
    )


def _accuracy(measured: Any) -> str:
    return ", ".join(f"{100 * m['accuracy']:.2f} % on {name} (n = {m['n']})" for name, m in measured.items())


VERBS = (run, inspect)
