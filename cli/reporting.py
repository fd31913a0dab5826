"""Verbs that read what bench measured: report shows it, compare judges it against an earlier result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.console import note, print_json, print_table
from quillrt.cli.options import Debug, Json, Quiet, check_output
from quillrt.runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from quillrt.benchmarks.comparison import Change
    from quillrt.benchmarks.results import Result

_FORMATS = {"html": ".html", "md": ".md", "csv": ".csv"}


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT.json...", help="What bench wrote; several stand side by side.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="report.html if not given; md and csv then go to stdout.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="html, md or csv; that of --output if not given, else html.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show results of bench as one page that needs no network, as Markdown or as CSV."""
    from quillrt.benchmarks.columns import to_csv
    from quillrt.benchmarks.html_report import to_html
    from quillrt.benchmarks.markdown_report import to_markdown
    from quillrt.benchmarks.stored import load_result
    from quillrt.runtime.files import write_text

    chosen = _format(form, output)
    if output is None and (chosen == "html" or as_json):
        output = Path("report").with_suffix(_FORMATS[chosen])
    if output is not None:
        check_output(output, output.suffix if form else _FORMATS[chosen])
    found = _named(results, [load_result(path) for path in results])
    text = {"html": to_html, "md": to_markdown, "csv": to_csv}[chosen](found)
    if output is None:
        typer.echo(text, nl=False)
        return
    write_text(output, text)
    if as_json:
        print_json({"path": str(output), "format": chosen, "results": list(found)})
    note(f"wrote {output}", quiet)


def _format(form: str | None, output: Path | None) -> str:
    """Return the format asked for, or that of the output's name."""
    known = {suffix: name for name, suffix in _FORMATS.items()} | {".markdown": "md", ".htm": "html"}
    if form is None:
        if output is not None and output.suffix not in known:
            raise ConfigError(f"expected an output that ends in {', '.join(known)}, found {output}; or give --format")
        return known[output.suffix] if output else "html"
    if form not in _FORMATS:
        raise ConfigError(f"expected a format out of {', '.join(_FORMATS)}, found {form!r}")
    return form


def _named(paths: list[Path], results: list[Result]) -> dict[str, Result]:
    """Return the results by names: the file's, or where that is bench's own the folder's; counted where alike."""
    found: dict[str, Result] = {}
    for path, result in zip(paths, results, strict=True):
        name = first = path.absolute().parent.name if path.stem == "result" else path.stem
        number = 1
        while name in found:
            number += 1
            name = f"{first} ({number})"
        found[name] = result
    return found


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="An earlier result.json of bench.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A later one.")],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1000, help="Per cent that a row may be slower by.")
    ] = 5.0,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="No failure where a row of OLD was not measured in NEW.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare results of other machines, settings or versions of the form, too.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two results of bench; exit code 1 when a row became slower beyond noise and threshold, wrong or lost."""
    from quillrt.benchmarks.comparison import UNDECIDED
    from quillrt.benchmarks.comparison import compare as judge
    from quillrt.benchmarks.comparison_machine import obstacles, remarks
    from quillrt.benchmarks.stored import load_result

    before, after = load_result(old, any_version=anyway), load_result(new, any_version=anyway)
    differing = obstacles(before, after)
    if differing and not anyway:
        raise DataError(
            f"expected two results of one machine, measured alike, found {'; '.join(differing)}; "
            "measure both in one place, or give --anyway"
        )
    found, others = judge(before, after, threshold), remarks(before, after)
    fails = found.regressions or (found.missing and not allow_missing)
    if as_json:
        print_json({"old": str(old), "new": str(new), "anyway": differing, "differences": others, **found.to_json()})
    else:
        print_table(f"{old} → {new}", _COLUMNS, [_cells(row) for row in found.rows])
        for title, lines in {
            "compared anyway": differing,
            "differs": others,
            "McNemar's p has bounds alone": found.bounded,
            "missing": found.missing,
            "new": found.added,
            "became worse": found.regressions,
        }.items():
            for line in lines:
                typer.echo(f"{title}: {line}")
        if not fails:
            typer.echo(f"no row became worse beyond noise and {threshold:g} %")
        if doubtful := sum(row.verdict in UNDECIDED for row in found.rows):
            typer.echo(f"of {doubtful} of {len(found.rows)} rows nothing can be said: measure them longer")
    if fails:
        raise typer.Exit(1)


_COLUMNS = ("row", "batch", "figure", "old", "new", "time, new ÷ old (95 %)", "accuracy, points (p)", "verdict")


def _cells(row: Change) -> tuple[str, ...]:
    ratio = "–" if row.ratio is None else f"{row.ratio:.3f} ({row.low:.3f} to {row.high:.3f})"
    accuracy = "–"
    if row.accuracy is not None:
        p = [f"{each:.2g}" for each in (row.accuracy.p_low, row.accuracy.p_high)]
        accuracy = f"{row.accuracy.points:+.2f} ({' to '.join(dict.fromkeys(p))})"
    figure = row.metric.replace("p90_ms", "median ms").replace("p99_ms", "median ms").replace("_", " ")
    verdict = row.verdict.upper() if row.verdict == "wrong" else row.verdict
    return (row.name, str(row.batch), figure, f"{row.old:,.4g}", f"{row.new:,.4g}", ratio, accuracy, verdict)
