"""What quillrt uses of TensorRT, held to the real bindings: each walk leads its code through doubles of their classes.

In this process they are TensorRT-RTX's; test_releases.py runs the file again on the bindings of full TensorRT.
"""

import inspect
from importlib import import_module
from types import CodeType

import pytest
from tensorrt_contract.annotations import Annotations, is_enum
from tensorrt_contract.reach import SOURCES, reached, uses
from tensorrt_contract.signatures import signatures
from tensorrt_contract.walks import WALKS, build_with_all_options, build_with_no_options, session_with_any_batch

from quillrt.runtime import tensorrt_api


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.__name__)
def test_walk(stage, walk):
    walk(stage)


def test_the_double_logs_and_flags_as_the_real_module(stage):
    double = stage.perform({})
    tensorrt = tensorrt_api.load(stage.family)
    tensorrt.logger.log(stage.real.ILogger.Severity.ERROR, "the reason")
    assert tensorrt.log.last_error == "the reason"
    assert isinstance(tensorrt.logger, stage.real.ILogger)
    assert tensorrt.portable is (stage.family == "tensorrt-rtx")
    assert double.BuilderFlag is stage.real.BuilderFlag


def test_every_docstring_of_the_bindings_is_read(stage):
    """No method and no property of a class goes unchecked, and no class that one names is unknown."""
    annotations, count = Annotations(stage.real, None), 0
    for cls in [cls for cls in vars(stage.real).values() if isinstance(cls, type) and not is_enum(cls)]:
        for name in [name for name in vars(cls) if not name.startswith("_")]:
            member = inspect.getattr_static(cls, name)
            functions = [member.fget, member.fset] if isinstance(member, property) else [getattr(cls, name)]
            for function in [f for f in functions if callable(f) and not isinstance(f, type)]:
                options = signatures(function)
                assert options, f"{cls.__name__}.{name}"
                types = [text for each in options for text in (each.returns, *(p.type for p in each.parameters))]
                assert not [
                    text for text in types if "tensorrt" in text and "[" not in text and not annotations.find(text)
                ]
                count += len(options)
    assert count > 800  # 872 in 10.3, 974 in 11.4


def test_reach_tells_which_uses_a_walk_runs(stage):
    found = uses(stage.real)
    built = {use.split()[1] for use in reached(found, lambda: build_with_no_options(stage))}
    assert {use.split()[1] for use in found} >= {"create_network", "TF32", "WORKSPACE", "execute_async_v3"}
    assert built >= {"create_network", "TF32"}
    assert not built & {"WORKSPACE", "execute_async_v3"}


# What quillrt uses, what older code has in its place, the first version without that, and a walk that gets there.
REMOVED = [
    ("execute_async_v3", "execute_async_v2", 10, session_with_any_batch),
    ("num_io_tensors", "num_bindings", 10, session_with_any_batch),
    ("builder_optimization_level", "max_workspace_size", 10, build_with_all_options),
    ("TF32", "INT8", 11, build_with_no_options),
]


@pytest.mark.parametrize(("name", "removed", "since", "walk"), REMOVED, ids=[removed for _, removed, _, _ in REMOVED])
def test_walk_fails_over_a_removed_name(stage, monkeypatch, name, removed, since, walk):
    changed = {function: _renamed(function.__code__, name, removed) for function in _functions()}
    changed = {function: code for function, code in changed.items() if code != function.__code__}
    assert changed
    for function, code in changed.items():
        monkeypatch.setattr(function, "__code__", code)
    major = int(stage.real.__version__.split(".")[0])
    if stage.family == "tensorrt" and major < since:
        walk(stage)
    else:
        with pytest.raises(AttributeError, match=removed):
            walk(stage)


def _functions():
    """Yield the functions and methods of the files that use TensorRT."""
    for path in SOURCES:
        module = import_module(f"quillrt.runtime.{path.stem}")
        classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        for owner in (module, *classes):
            for found in vars(owner).values():
                function = inspect.unwrap(found.fget if isinstance(found, property) else found)
                if inspect.isfunction(function) and function.__module__ == module.__name__:
                    yield function


def _renamed(code, old, new):
    """Return ``code`` with the attribute ``new`` wherever it has ``old``, also in the functions inside it."""
    inner = [_renamed(each, old, new) if isinstance(each, CodeType) else each for each in code.co_consts]
    names = [new if each == old else each for each in code.co_names]
    return code.replace(co_names=tuple(names), co_consts=tuple(inner))
