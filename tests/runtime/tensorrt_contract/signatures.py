"""Call signatures of pybind11 functions, read off their docstrings: ``inspect.signature`` knows nothing of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# "create_network(self: m.Builder, flags: int = 0) -> m.INetworkDefinition"; a property's accessors have no name, an
# overload has a number.
_LINE = re.compile(r"(?:\d+\. )?(?P<name>\w*)\((?P<parameters>.*)\) -> (?P<returns>.+)")
_PARAMETER = re.compile(r"(?P<name>\w+)(?:: (?P<type>.*?))?(?: = (?P<default>.*))?", re.DOTALL)
_UNNAMED = re.compile(r"arg\d+")  # pybind11's name for a parameter that has none, and so takes no keyword


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: its name.
        type: its type as written.
        default: its default as written; ``None`` where it must be given.
    """

    name: str
    type: str
    default: str | None = None


@dataclass(frozen=True)
class Signature:
    """One way to call a function.

    Attributes:
        parameters: what it takes, ``self`` among them.
        returns: type of its result as written.
    """

    parameters: tuple[Parameter, ...]
    returns: str

    def without_self(self) -> Signature:
        """Return the signature of the bound method."""
        return Signature(self.parameters[1:], self.returns)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Parameter, Any]]:
        """Return the arguments given, each with its parameter.

        Raises:
            TypeError: too many, too few, or a keyword that is unknown or given twice.
        """
        if len(args) > len(self.parameters):
            raise TypeError(f"{len(args)} positional arguments for {len(self.parameters)} parameters")
        bound = list(zip(self.parameters, args, strict=False))
        left = dict(kwargs)
        for parameter in self.parameters[len(args) :]:
            if parameter.name in left and not _UNNAMED.fullmatch(parameter.name):
                bound.append((parameter, left.pop(parameter.name)))
            elif parameter.default is None:
                raise TypeError(f"no argument {parameter.name!r}")
        if left:
            raise TypeError(f"unexpected keyword {', '.join(left)}")
        return bound

    def __str__(self) -> str:
        return f"({', '.join(f'{each.name}: {each.type}' for each in self.parameters)}) -> {self.returns}"


def signatures(function: Callable[..., Any]) -> tuple[Signature, ...]:
    """Return the signatures in the docstring of ``function``, one for each overload; none in an ordinary docstring."""
    lines = (function.__doc__ or "").splitlines()
    if not lines:
        return ()
    if "(*args, **kwargs)" not in lines[0]:
        lines = lines[:1]
    name = lines[0].partition("(")[0]
    matches = (_LINE.fullmatch(line.strip()) for line in lines)
    return tuple(_signature(match) for match in matches if match and match["name"] == name)


def _signature(match: re.Match[str]) -> Signature:
    parameters = []
    for text in split(match["parameters"], ","):
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise ValueError(f"expected a parameter of pybind11, found {text!r} in {match[0]!r}")
        parameters.append(Parameter(found["name"], found["type"] or "object", found["default"]))
    return Signature(tuple(parameters), match["returns"])


def split(text: str, separator: str) -> list[str]:
    """Split at each ``separator`` outside brackets: ``"a: List[int, str], b"`` in two."""
    return list(_split(text, separator))


def _split(text: str, separator: str) -> Iterator[str]:
    depth, start = 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == separator and depth == 0:
            yield text[start:index].strip()
            start = index + 1
    if text[start:].strip():
        yield text[start:].strip()
