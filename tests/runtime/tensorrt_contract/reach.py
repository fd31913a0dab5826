"""Which statements of quillrt use TensorRT's objects, and which of them are run."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quillrt.runtime import tensorrt_api

_RUNTIME = Path(tensorrt_api.__file__).parent
# The files of the runtime that hold an object of TensorRT's.
SOURCES = [path for path in _RUNTIME.glob("*.py") if path.stem == "tensorrt_api" or path.stem.startswith("trt")]


def uses(module: Any) -> dict[str, range]:
    """Return the uses of what a TensorRT has, as ``"trt.py:195 execute_async_v3"``, and the lines of their statements.

    A use is an attribute with the name of one of the module's classes, of their members or of a value of an
    enumeration, unless quillrt's files give the name to something of their own, or any list has it.
    """
    classes = {name: cls for name, cls in vars(module).items() if isinstance(cls, type)}
    api = {*classes, *(name for cls in classes.values() for name in dir(cls) if not name.startswith("_"))}
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    api -= {*dir(list), *(name for tree in trees.values() for name in _defined(tree))}
    return {
        f"{path.name}:{node.end_lineno} {node.attr}": range(statement.lineno, head[-1].end_lineno + 1)
        for path, tree in trees.items()
        for statement, head in _statements(tree)
        for part in head
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and node.attr in api and not _of_exception(node, tree)
    }


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _statements(tree: ast.AST) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each statement inside a function, with its parts that are no statements: of an ``if`` the condition."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for statement in ast.walk(function):
                parts = [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.expr | ast.withitem)]
                head = [part.context_expr if isinstance(part, ast.withitem) else part for part in parts]
                if isinstance(statement, ast.stmt) and head:
                    yield statement, head


def _of_exception(node: ast.Attribute, tree: ast.AST) -> bool:
    """Tell whether it is an attribute of a caught exception, such as ``error.name``."""
    handlers = (each for each in ast.walk(tree) if isinstance(each, ast.ExceptHandler))
    return isinstance(node.value, ast.Name) and any(
        each.name == node.value.id and each.lineno <= node.lineno <= (each.end_lineno or 0) for each in handlers
    )


def reached(uses: dict[str, range], play: Callable[[], object]) -> set[str]:
    """Return those of ``uses`` whose statements ``play`` runs."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: Any, event: str, _: object) -> Any:
        path = Path(frame.f_code.co_filename)
        if path.parent != _RUNTIME:
            return None
        lines.add((path.name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        play()
    finally:
        sys.settrace(before)
    return {use for use, where in uses.items() if any((use.partition(":")[0], line) in lines for line in where)}
