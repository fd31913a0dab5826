"""Graphs people can read: no traces of the training machine, every node and tensor named by its PyTorch module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .macs import MULTIPLYING

if TYPE_CHECKING:
    import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
_WEIGHT = ".weight"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"  # torch's scope of what it adds itself, as sizes for a GRU


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` whose nodes and tensors bear their PyTorch modules' names, without any metadata.

    torch's exporter leaves in each node the stack trace of its making, paths and source lines included, and in
    ``pkg.torch.onnx.name_scopes`` the modules it lies in. A module's first node gets the module's name, such as
    ``conv1``; further ones get that and their operator, such as ``fc1.relu``. Graphs from other exporters keep the
    names they have; nodes without one are named by their operator.
    """
    import onnx

    cleaned = onnx.ModelProto()
    cleaned.CopyFrom(model)
    graph = cleaned.graph
    _constants_to_initializers(graph)
    taken: set[str] = set()
    for node in graph.node:
        node.name = _unused(_name(node, taken), taken)
    for holder in _holders(cleaned):
        del holder.metadata_props[:]
        holder.doc_string = ""
    if not any(_subgraphs(node) for node in graph.node):  # the body of a loop refers to tensors outside it by name
        _rename_tensors(graph)
    return cleaned


def _name(node: onnx.NodeProto, taken: set[str]) -> str:
    scopes = _scopes(node)
    if not scopes:
        return node.name or node.op_type
    *modules, operator = scopes
    weight = node.input[1] if node.op_type in MULTIPLYING else ""
    if (owner := weight.removesuffix(_WEIGHT)) not in (weight, *taken):
        return owner  # a batch norm folded into it has left its own scope
    module = modules[-1] if modules else ""
    if module in ("", _NO_MODULE):
        return str(operator)
    return module if module not in taken else f"{module}.{node.op_type.lower()}"


def _scopes(node: onnx.NodeProto) -> list[str]:
    """Return the modules and the operator that torch's exporter wrote down; nothing where it, or another, did not."""
    text = next((p.value for p in node.metadata_props if p.key == _SCOPES), "[]")
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return list(map(str, scopes)) if isinstance(scopes, list) else []


def names_read(graph: onnx.GraphProto) -> set[str]:
    """Return what the nodes of ``graph`` read, in the bodies of loops and branches too, and what it gives."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for body in _subgraphs(node):
            names |= names_read(body)
    return names


def _unused(name: str, taken: set[str]) -> str:
    candidates = (name if i == 0 else f"{name}_{i}" for i in range(len(taken) + 1))
    chosen = next(c for c in candidates if c not in taken)
    taken.add(chosen)
    return chosen


def _holders(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield everything that can bear metadata: the model, its functions, its graph and all below it."""
    yield model
    for function in model.functions:
        yield function
        yield from function.node
    yield from _graph_holders(model.graph)


def _graph_holders(graph: onnx.GraphProto) -> Iterator[Any]:
    yield graph
    for group in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        yield from group
    for node in graph.node:
        for body in _subgraphs(node):
            yield from _graph_holders(body)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [body for a in node.attribute for body in (*a.graphs, *([a.g] if a.HasField("g") else []))]


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Older exporters write weights as Constant nodes; passes look for them among the initializers."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _rename_tensors(graph: onnx.GraphProto) -> None:
    """Name the first output of every node after the node; inputs and outputs of the graph keep theirs."""
    fixed = {value.name for group in (graph.input, graph.output, graph.initializer) for value in group}
    renamed: dict[str, str] = {}
    used = set(fixed)
    for node in graph.node:
        for i, old in enumerate(node.output):
            if old and old not in fixed:
                renamed[old] = _unused(node.name if i == 0 else f"{node.name}.{i}", used)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)
