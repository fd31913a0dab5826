"""The verb that shows what comes with quillrt: models."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.console import print_json, print_table
from quillrt.cli.options import Debug, Json
from quillrt.runtime.pretrained import PREFIX, find, names

if TYPE_CHECKING:
    from quillrt.runtime.pretrained_facts import Facts

_COLUMNS = ("name", "network", "data set", "classes", "parameters", "checkpoint KiB", "bundle KiB", "accuracy")


def models(
    name: Annotated[str | None, typer.Argument(help="Show this one's card.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the pretrained models; every verb takes models:NAME for a path."""
    from quillrt.runtime.pretrained_facts import facts

    if name is None:
        found = [facts(each) for each in names()]
        if as_json:
            print_json([asdict(each) for each in found])
        else:
            print_table("pretrained models; accuracy: the lowest of each precision", _COLUMNS, map(_row, found))
        return
    name = name.removeprefix(PREFIX)
    card = find(name, ".md").read_text(encoding="utf-8")
    if as_json:
        print_json({**asdict(facts(name)), "card": card})
        return
    typer.echo(card.rstrip("\n"))


def _row(model: Facts) -> tuple[str, ...]:
    sizes = (f"{size / 1024:,.0f}" for size in (model.checkpoint_bytes, model.bundle_bytes))
    numbers = (str(len(model.labels)), f"{model.parameters:,}", *sizes)
    return (PREFIX + model.name, model.network, model.dataset, *numbers, _accuracy(model))


def _accuracy(model: Facts) -> str:
    """Return the accuracies as measured where the bundle was compiled."""
    lowest: dict[str, float] = {}
    for m in model.measured:
        lowest[m["precision"]] = min(m["accuracy"], lowest.get(m["precision"], 1.0))
    figures = ", ".join(f"{precision} {100 * accuracy:.2f} %" for precision, accuracy in lowest.items())
    where = dict.fromkeys(f"{m['dataset']} {m['part']}, n = {m['n']:,}" for m in model.measured)
    return f"{figures} ({'; '.join(where)})" if where else ""
