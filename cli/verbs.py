"""Options that several verbs share by the dozen, written down once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

Option = tuple[Any, Any]  # its annotated type, its default


def flag(kind: Any, *names: str, **settings: Any) -> Any:
    """Return the type of an option called ``names``."""
    return Annotated[kind, typer.Option(*names, **settings)]


def with_options(options: Mapping[str, Option]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give typer ``options`` in place of a verb's ``**chosen``, where their values then are.

    typer reads options off a function's signature, and the signatures of `train` and `finetune` would be the same
    thirty lines twice.
    """

    def extend(verb: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in options.items()
        ]

        @functools.wraps(verb)
        def run(**given: Any) -> None:
            verb(**given)

        parameters = [*(p.replace(kind=p.KEYWORD_ONLY) for p in own), *more]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return extend
