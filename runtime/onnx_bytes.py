"""ONNX graphs out of bundles stand alone: none may name a file, memory or an engine outside of itself.

Weights that a graph in memory calls external are read from files below the working directory by onnxruntime 1.32,
OpenVINO 2026.4 and the parser of TensorRT-RTX 1.7, as was tried here; older ones may read any file. So a graph's bytes
are walked before a library sees them. That takes no more of protobuf's wire format
(protobuf.dev/programming-guides/encoding) than to find every tensor and every node; the numbers of the fields are those
of onnx.proto, which never change.
"""

from __future__ import annotations

from .errors import BundleError

# Message -> field -> message in it, of all that can hold a tensor or a node.
_HOLDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_OP_TYPE = 4  # of a node
_ENGINE_NODE = b"EPContext"  # onnxruntime's: an engine, or the path of one
_ORT_FORMAT = b"ORTM"  # bytes 4 to 8 of onnxruntime's own format, which it would take for what it is
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIELDS = 2**29  # as many there are; of a larger number protobuf's C++ would take the last bits for one of these
_LONGEST_VARINT = 10  # bytes


def check_self_contained(model: bytes) -> None:
    """Raise unless ``model`` is an ONNX graph, whole, with all of its weights in it and no engine.

    Raises:
        BundleError: it is none, or it names something outside of itself.
    """
    try:
        fault = "onnxruntime's own format" if model[4:8] == _ORT_FORMAT else _fault(model)
    except (IndexError, ValueError):
        fault = f"{len(model)} bytes that are none"
    if fault:
        raise BundleError(
            f"expected an ONNX graph with all of its weights in it, found {fault}; compile it again of what you trust"
        )


def _fault(model: bytes) -> str | None:
    """Return what is wrong with a graph, ``None`` if nothing is.

    Raises:
        IndexError, ValueError: it is no protobuf message, or a field has another wire type than ONNX gives it.
    """
    has_graph = False
    waiting = [("model", 0, len(model))]  # no recursion: how deep a graph nests is up to its maker
    while waiting:
        message, place, end = waiting.pop()
        inside = _HOLDS[message]
        while place < end:
            key, place = _varint(model, place)
            field, wire = key >> 3, key & 7
            start, value = place, 0
            if wire == _VARINT:
                value, place = _varint(model, place)
            elif wire == _LENGTH:
                value, start = _varint(model, place)
                place = start + value
            elif wire in (_FIXED32, _FIXED64):
                place += 4 if wire == _FIXED32 else 8
            else:
                raise ValueError("a wire type that ONNX does not use")
            if place > end or not 0 < field < _FIELDS:
                raise ValueError("a field that is none, or does not end with its message")
            if field in inside:
                if wire != _LENGTH:
                    raise ValueError("a message of another wire type")
                waiting.append((inside[field], start, place))
                has_graph = has_graph or inside[field] == "graph"
            elif message == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
                return "weights that lie outside of it"
            elif message == "node" and field == _OP_TYPE and model[start:place] == _ENGINE_NODE:
                return "an engine"
    return None if has_graph else "one without a graph"


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at ``place`` and the place behind it.

    Raises:
        IndexError: the data ends in it.
        ValueError: it is longer than any.
    """
    number = data[place]
    if number < 0x80:
        return number, place + 1
    number &= 0x7F
    for index in range(1, _LONGEST_VARINT):
        byte = data[place + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, place + index + 1
    raise ValueError("a number without end")
