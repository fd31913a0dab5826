"""Stand-ins for TensorRT's objects that hold the code under test to the real bindings' classes and signatures.

A double of a class has its attributes and no others, takes the arguments that the docstrings of its methods name, and
returns what they name: a member of the real enumeration, a plain value, or another double. So code under test walks on,
and what an API does not have raises ``AttributeError`` or ``TypeError``, as it would with TensorRT.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .annotations import Annotations
from .signatures import Signature, signatures

_BUFFERS = ("IHostMemory",)  # nothing in a class tells that its objects have a buffer
_PROTOCOLS = ("__len__", "__getitem__", "__setitem__", "__iter__", "__contains__", "__enter__", "__exit__")


def double_of(module: Any, answers: Mapping[str, Any]) -> Any:
    """Return a double of the bindings ``module``.

    Classes that need TensorRT's library are doubled; enumerations, plain classes such as ``Dims`` and the interfaces
    that callers subclass are the real ones.

    Args:
        module: the real bindings.
        answers: what attributes are and methods return, by names such as ``"ITensor.shape"``, where the first thing of
            its type would not do. A function is called with the arguments, without ``self``. Bytes stand for
            an object with a buffer.
    """
    return _Module(_Api(module, answers))


class _Api:
    def __init__(self, module: Any, answers: Mapping[str, Any]) -> None:
        self.module, self._answers = module, answers
        self.annotations = Annotations(module, self.make)
        self._kinds: dict[tuple[type, bool], _Kind] = {}

    def kind(self, cls: type, buffer: bool = False) -> _Kind:
        """Return the class of the doubles of ``cls``."""
        if (cls, buffer) not in self._kinds:
            special: dict[str, Any] = {name: _special(name) for name in _PROTOCOLS if hasattr(cls, name)}
            if buffer:  # bytes have methods that a host memory lacks
                special = {**dict.fromkeys(_PROTOCOLS[:5]), **special}
            bases = (_Double, bytes) if buffer else (_Double,)
            self._kinds[cls, buffer] = _Kind(cls.__name__, bases, {**special, "_api": self, "_real": cls})
        return self._kinds[cls, buffer]

    def make(self, cls: type, content: bytes | None) -> Any:
        """Return a new double of ``cls``, over ``content`` if it has a buffer."""
        if content is None and cls.__name__ in _BUFFERS:
            content = b""
        kind: Any = self.kind(cls, content is not None)
        double: Any = object.__new__(kind) if content is None else bytes.__new__(kind, content)
        object.__setattr__(double, "_values", {})
        return double

    def answer(self, name: str, cls: type, returns: str, *arguments: Any) -> Any:
        """Return what ``name`` of a ``cls`` answers: the preset of the class or of a base, or an example."""
        for base in cls.__mro__:
            if (key := f"{base.__name__}.{name}") in self._answers:
                answer = self._answers[key]
                return self.annotations.result(returns, answer(*arguments) if callable(answer) else answer)
        return self.annotations.example(returns)

    def check(self, what: str, options: tuple[Signature, ...], args: Any, kwargs: Any) -> tuple[Signature, list[Any]]:
        """Return the first of the signatures that takes the arguments, and their values.

        Raises:
            TypeError: none does.
        """
        reasons = []
        for option in options:
            try:
                bound = option.bind(args, kwargs)
            except TypeError as error:
                reasons.append(f"{error}: {option}")
                continue
            # `path: str = None` takes None.
            wrong = [
                f"{value!r} is no {parameter.type}"
                for parameter, value in bound
                if not (value is None and parameter.default == "None")
                and not self.annotations.accepts(parameter.type, value)
            ]
            if not wrong:
                for _, value in bound:
                    check_overrides(value, self.module)
                return option, [value for _, value in bound]
            reasons.append(f"{', '.join(wrong)}: {option}")
        raise TypeError(f"TensorRT {self.module.__version__}: {what} refuses its arguments: {'; '.join(reasons)}")

    def function(self, what: str, function: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that checks its arguments against ``function``'s signatures and returns an answer."""
        options = signatures(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            chosen, values = self.check(what, options, args, kwargs)
            return answer(chosen.returns, *values)

        return call


def check_overrides(value: Any, module: Any) -> None:
    """Hold a subclass of one of the API's interfaces to it: TensorRT calls its methods by position.

    Raises:
        TypeError: it overrides none of the interface's methods, or one with other parameters.
    """
    cls = type(value)
    base = next((base for base in cls.__mro__ if base.__module__.startswith(module.__name__)), cls)
    if base is cls or isinstance(value, _Double):
        return
    mine = {
        name: f for c in cls.__mro__[: cls.__mro__.index(base)] for name, f in vars(c).items() if inspect.isfunction(f)
    }
    overridden = [name for name in mine if not name.startswith("_") and hasattr(base, name)]
    if not overridden:
        raise TypeError(f"TensorRT {module.__version__}: {cls.__name__} overrides no method of {base.__name__}")
    for name in overridden:
        for option in signatures(getattr(base, name)):
            inspect.signature(mine[name]).bind(*option.parameters)


class _Module:
    def __init__(self, api: _Api) -> None:
        object.__setattr__(self, "_api", api)

    def __getattr__(self, name: str) -> Any:
        api = self._api
        value = getattr(api.module, name)
        if isinstance(value, type):
            constructors = signatures(vars(value).get("__init__", object))
            return api.kind(value) if constructors and not api.annotations.is_plain(value) else value
        if isinstance(value, types.BuiltinFunctionType) and signatures(value):
            return api.function(name, value, lambda returns, *_: api.annotations.example(returns))
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"TensorRT {self._api.module.__version__}: nothing assigns {name}")


class _Kind(type):
    """A class of doubles; called, it is the constructor of the real class."""

    _api: _Api
    _real: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        real, api = cls._real, cls._api
        options = tuple(each.without_self() for each in signatures(vars(real)["__init__"]))
        _, values = api.check(real.__name__, options, args, kwargs)
        api.answer("__init__", real, "None", *values)
        return api.make(real, None)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls._real, name)


class _Double(metaclass=_Kind):
    _values: dict[str, Any]  # what was assigned, and objects that properties gave

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # so that isinstance takes it for the real class
        return type(self)._real

    def __repr__(self) -> str:
        return f"<double of {type(self)._real.__name__}>"

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        kind, values = type(self), object.__getattribute__(self, "_values")
        api, real = kind._api, kind._real
        member = _member(api, real, name)
        if name in values:
            return values[name]
        if type(member) is property:
            if member.fget is None:
                raise AttributeError(f"TensorRT {api.module.__version__}: {real.__name__}.{name} can only be written")
            answer = api.answer(name, real, signatures(member.fget)[0].returns)
            return values.setdefault(name, answer) if isinstance(answer, _Double) else answer
        return _method(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        api, real = kind._api, kind._real
        member = _member(api, real, name)
        if type(member) is not property or member.fset is None:
            raise AttributeError(f"TensorRT {api.module.__version__}: {real.__name__}.{name} cannot be written")
        options = tuple(each.without_self() for each in signatures(member.fset))
        api.check(f"{real.__name__}.{name}", options, (value,), {})
        object.__getattribute__(self, "_values")[name] = value

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} keeps its {name}")


def _member(api: _Api, real: type, name: str) -> Any:
    try:
        return inspect.getattr_static(real, name)
    except AttributeError:
        raise AttributeError(f"TensorRT {api.module.__version__}: {real.__name__} has no {name}") from None


def _method(double: _Double, name: str) -> Any:
    """Return the method ``name`` of a double; what is no method, such as a nested enumeration, as it is."""
    kind = type(double)
    api, real = kind._api, kind._real
    function = getattr(real, name)
    options = signatures(function) if callable(function) and not isinstance(function, type) else ()
    if not options:  # written in Python
        return partial(function, double) if inspect.isfunction(function) else function
    answer = partial(api.answer, name, real)
    if isinstance(inspect.getattr_static(real, name), staticmethod):
        return api.function(f"{real.__name__}.{name}", function, answer)
    return partial(
        api.function(f"{real.__name__}.{name}", function, lambda returns, _, *v: answer(returns, *v)), double
    )


def _special(name: str) -> Callable[..., Any]:
    """Return a special method, which Python looks up on the class."""

    def special(self: _Double, *args: Any, **kwargs: Any) -> Any:
        return _method(self, name)(*args, **kwargs)

    return special
