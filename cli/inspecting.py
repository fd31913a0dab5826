"""The verb inspect: what a bundle holds, and which of it fits this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import print_json, print_table
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import Debug, Json

if TYPE_CHECKING:
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.confidence import Confidence


def inspect(
    bundle: BundleFile,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Show which nodes INT8 computes, and why it leaves the others.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check every sha256 of a bundle and show what it holds."""
    from quillrt.runtime.bundle import Bundle

    opened = Bundle.open(bundle.path)
    manifest = opened.manifest
    if nodes:
        _show_nodes(opened, as_json)
        return
    engines = _engines(opened)
    if as_json:
        print_json({"sha256": opened.sha256, "signed": opened.is_signed, **manifest.to_json(), "engines": engines})
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
    if engines:
        print_table(
            "native engines",
            ("file", "built by", "for SM", "also runs on", "on this machine"),
            [
                (
                    engine["file"],
                    f"{engine['backend']} {engine['tensorrt'] or ''}",
                    ", ".join(engine["compute_capabilities"]),
                    _compatibility(engine),
                    engine["why_not"] or "fits",
                )
                for engine in engines
            ],
        )
    for line in _confidence(manifest.confidence):
        typer.echo(line)
    if opened.is_signed:
        typer.echo("it carries a signature, which was not checked: quillrt verify --key PUB.pem")
    for origin in dict.fromkeys(e.calibrated for e in manifest.entries if e.calibrated):
        typer.echo(f"INT8 ranges: {origin}")


def _confidence(confidence: Confidence) -> list[str]:
    """Return the temperature, and what the threshold turns away, where the bundle says so."""
    measured = confidence.measured
    if not measured:
        return []
    lines = [f"confidence: temperature {confidence.temperature:g} (n = {measured['n']:,})"]
    if confidence.least_energy is not None and "characters_turned_away" in measured:
        lost, taken = measured["characters_turned_away"], measured.get("taken_for_characters", {})
        others = ", ".join(f"{name} {100 * found['share']:.1f} % of {found['n']:,}" for name, found in taken.items())
        lines.append(
            f"no character: {100 * lost['share']:.1f} % of {lost['n']:,} characters are turned away; "
            f"taken for characters all the same: {others}"
        )
    if confidence.least_energy is None:
        lines.append("no character: every image is taken for one, no threshold was found when this was compiled")
    return lines


def _engines(bundle: Bundle) -> list[dict[str, Any]]:
    """Return as plain JSON values what each native engine is for, and why it cannot run here; ``None`` if it can."""
    from quillrt.runtime.engine_fit import hardware_compatible, holds_host_code
    from quillrt.runtime.select import why_not

    return [
        {
            "file": entry.path,
            "backend": entry.backends[0],
            "tensorrt": entry.built_for.get("tensorrt"),
            "compute_capabilities": entry.built_for.get("compute_capabilities", []),
            "gpu": entry.built_for.get("gpu"),
            "hardware_compatible": hardware_compatible(entry),
            "version_compatible": holds_host_code(entry),
            "why_not": why_not(entry, entry.backends[0]),
        }
        for entry in bundle.entries
        if entry.kind == "engine" and entry.backends
    ]


def _compatibility(engine: Mapping[str, Any]) -> str:
    wider = (("hardware_compatible", "other GPUs"), ("version_compatible", "later TensorRT"))
    return ", ".join(words for name, words in wider if engine[name])


def _show_nodes(bundle: Bundle, as_json: bool) -> None:
    """Print what the compiler decided on each node.

    Raises:
        BundleError: the report lacks, or is none.
    """
    from quillrt.runtime.errors import BundleError
    from quillrt.runtime.strict_json import read_printable

    try:
        decisions = read_printable(bundle.files["report.json"])["nodes"]
        rows = [
            (path, str(node["name"]), str(node["op_type"]), _type(node["quantized"]), str(node["reason"]))
            for path, found in decisions.items()
            for node in found
        ]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"expected a report of the compiler in {bundle.path}, found none; compile again") from error
    if as_json:
        print_json(decisions)
        return
    print_table(f"{bundle.path.name}: convolutions and products", ("file", "node", "operator", "computes in", ""), rows)


def _type(is_quantized: bool) -> str:
    return "int8" if is_quantized else "fp32"


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
