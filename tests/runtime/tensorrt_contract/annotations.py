"""What the types in pybind11's docstrings stand for: which values they take, and a value of each.

The words changed with pybind11's versions: ``int`` is ``typing.SupportsInt`` in TensorRT 11, ``buffer`` is
``typing_extensions.Buffer``, ``List[int]`` is ``collections.abc.Sequence[typing.SupportsInt]``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .signatures import signatures, split

_GENERIC = re.compile(r"(?P<name>[\w.]+)\[(?P<arguments>.*)\]")
_CLASS = re.compile(r"[A-Z]\w*(?:\.\w+)*$")  # "tensorrt_bindings.tensorrt.ILogger.Severity" without its module
_ANYTHING = ("object", "Any", "capsule", "CapsuleType", "Callable", "function", "handle")
_SEQUENCES = ("list", "List", "Sequence", "Iterable", "tuple", "Tuple")


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


# As pybind11 converts: whatever has __index__ is an int, but no float is; any int is a float. It takes more for a bool
# than a bool, which would let arguments in the wrong order pass.
_SIMPLE: dict[str, tuple[Callable[[Any], bool], Any]] = {
    "int": (lambda value: hasattr(value, "__index__"), 0),
    "SupportsInt": (lambda value: hasattr(value, "__index__"), 0),
    "SupportsIndex": (lambda value: hasattr(value, "__index__"), 0),
    "float": (lambda value: hasattr(value, "__float__") or hasattr(value, "__index__"), 0.0),
    "SupportsFloat": (lambda value: hasattr(value, "__float__") or hasattr(value, "__index__"), 0.0),
    "bool": (lambda value: type(value).__name__ in ("bool", "bool_"), True),  # numpy's too
    "str": (lambda value: isinstance(value, str), ""),
    "bytes": (lambda value: isinstance(value, bytes), b""),
    "buffer": (_is_buffer, b""),
    "Buffer": (_is_buffer, b""),
    "slice": (lambda value: isinstance(value, slice), slice(None)),
    "dict": (lambda value: isinstance(value, dict), {}),
    "None": (lambda value: value is None, None),
}


class Annotations:
    """The types of one module's docstrings.

    Args:
        module: the real bindings.
        make: returns a stand-in for an object of a class that needs TensorRT's library.
    """

    def __init__(self, module: Any, make: Callable[[type, Any], Any]) -> None:
        self._module, self._make = module, make

    def find(self, text: str) -> type | None:
        """Return the class of the module that ``text`` names; ``None`` if there is none.

        A class that was not yet bound when the docstring was written has its name in C++:
        ``nvonnxparser::IParserError`` for ``ParserError``.
        """
        match = _CLASS.search(text.replace("::", "."))
        found: Any = self._module
        for name in match[0].split(".") if match else ():
            found = getattr(found, name, None) or ("::" in text and getattr(found, name.removeprefix("I"), None))
        return found if isinstance(found, type) else None

    def accepts(self, text: str, value: Any) -> bool:
        """Tell whether a parameter of type ``text`` takes ``value``; types that are not known take anything."""
        options = split(text, "|")
        if len(options) > 1:
            return any(self.accepts(option, value) for option in options)
        name, arguments = _parts(text)
        if name in _SIMPLE:
            return _SIMPLE[name][0](value)
        if name == "Optional":
            return value is None or self.accepts(arguments[0], value)
        if name == "Union":
            return any(self.accepts(option, value) for option in arguments)
        if name in _SEQUENCES:
            return self._accepts_sequence(name, arguments, value)
        cls = None if name in _ANYTHING else self.find(text)
        if cls is None or isinstance(value, cls):
            return True
        if is_enum(cls):
            return False
        return value is None or self._converts(cls, value)

    def _accepts_sequence(self, name: str, arguments: list[str], value: Any) -> bool:
        if isinstance(value, str | bytes) or not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
            return False
        if name.lower() == "tuple" and arguments:
            return len(value) == len(arguments) and all(map(self.accepts, arguments, value))
        return not arguments or all(self.accepts(arguments[0], each) for each in value)

    def is_plain(self, cls: type) -> bool:
        """Tell whether objects of ``cls`` can be made without TensorRT's library.

        They can where a constructor asks for none of the API's objects, as ``Builder(logger)`` does. Dims are plain,
        and so are the interfaces that callers subclass.
        """
        return any(
            all(
                found is None or found is cls or is_enum(found)
                for found in (self.find(p.type) for p in each.parameters)
            )
            for each in signatures(vars(cls).get("__init__", object))
        )

    def _converts(self, cls: type, value: Any) -> bool:
        """Tell whether a plain class makes an object of ``value``: pybind11 then does so unasked, Dims of a tuple."""
        if not self.is_plain(cls):
            return False
        constructors = [each.parameters[1:] for each in signatures(vars(cls)["__init__"])]
        if not any(len(each) == 1 and self.accepts(each[0].type, value) for each in constructors):
            return False
        try:
            cls(value)
        except (TypeError, ValueError):
            return False
        return True

    def result(self, text: str, value: Any) -> Any:
        """Return ``value`` as the bindings would return it from a function of type ``text``: a tuple as their Dims.

        Raises:
            AssertionError: no such value can come back.
        """
        name, arguments = _parts(text)
        cls = self.find(text)
        if name in _SEQUENCES and len(arguments) == 1 and isinstance(value, Sequence):
            return [self.result(arguments[0], each) for each in value]
        if name not in _SIMPLE and cls is not None and value is not None and not isinstance(value, cls):
            if isinstance(value, bytes) and not self.is_plain(cls):
                return self._make(cls, value)
            if not is_enum(cls) and self._converts(cls, value):
                return cls(value)
        assert self.accepts(text, value), f"expected a preset answer of type {text}, found {value!r}"
        return value

    def example(self, text: str) -> Any:
        """Return a value that a function of type ``text`` may return when all goes well."""
        name, arguments = _parts(split(text, "|")[0])
        if name in _SIMPLE:
            return _SIMPLE[name][1]
        if name in ("Optional", "Union"):
            return self.example(arguments[0])
        if name in _SEQUENCES:
            return tuple(map(self.example, arguments)) if name.lower() == "tuple" else []
        cls = None if name in _ANYTHING else self.find(text)
        if cls is None:
            return None
        if is_enum(cls):
            return next(iter(cls.__members__.values()))  # type: ignore[attr-defined]
        return cls() if self.is_plain(cls) and _takes_nothing(cls) else self._make(cls, None)


def is_enum(cls: type) -> bool:
    """Tell whether ``cls`` is one of pybind11's enumerations."""
    return hasattr(cls, "__members__")


def _takes_nothing(cls: type) -> bool:
    return any(all(p.default for p in each.without_self().parameters) for each in signatures(vars(cls)["__init__"]))


def _parts(text: str) -> tuple[str, list[str]]:
    """Return name without module and arguments: ``collections.abc.Sequence[int]`` is ``("Sequence", ["int"])``."""
    match = _GENERIC.fullmatch(text)
    name, arguments = (match["name"], split(match["arguments"], ",")) if match else (text, [])
    return name.rpartition(".")[2], arguments
