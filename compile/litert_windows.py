"""What LiteRT's operators take of ONNX's attributes: windows, their steps and pads, and the forms that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from quillrt.runtime.errors import ExportError

from .flatbuffer import Quantization

if TYPE_CHECKING:
    import onnx

_SAME, _VALID = 0, 1  # Padding


def window(node: onnx.NodeProto, kernel: Sequence[int]) -> tuple[dict[str, int], tuple[int, ...]]:
    """Return how a window of (height, width) slides, and the rows and columns that have to be padded before.

    Returns:
        Settings of the operator; and pads top, left, bottom, right, none where LiteRT's own padding is that of ONNX.

    Raises:
        ExportError: pads that depend on the size of the image.
    """
    attributes = attributes_of(node)
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        refuse(node, "explicit pads")
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
    settings = {"strideH": strides[0], "strideW": strides[1], "padding": _VALID}
    if not any(pads):
        return settings, ()
    # "Same" gives as many rows as came in, its pads split evenly: with a stride they would depend on the size.
    even = [d * (k - 1) / 2 for d, k in zip(dilations, kernel, strict=True)]
    if tuple(strides) == (1, 1) and pads == (*even, *even):
        return {**settings, "padding": _SAME}, ()
    return settings, pads


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name, text as ``str``."""
    from onnx.helper import get_attribute_value

    found = {a.name: get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def version_of(steps: Quantization | None) -> int:
    """Return the version of an operator that has taken FP32 from its first on, and INT8 from its second."""
    return 1 if steps is None else 2


def refuse(node: onnx.NodeProto, expected: str) -> NoReturn:
    """Say that a node has a form which is not converted.

    Raises:
        ExportError: always.
    """
    raise ExportError(
        f"expected {expected} for litert at node {node.name} ({node.op_type}), found another form; "
        "leave the target litert out"
    )
