"""What kernels multiply in, beside what the graph asks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from .macs import multiply_adds
from .quantize import typed_kind

if TYPE_CHECKING:
    import onnx

_NAMED = 3  # nodes that a message names


class Computed(NamedTuple):
    """What kernels multiply in.

    Attributes:
        macs: multiply-adds of one image by datatype, ``unknown`` for nodes that no kernel names.
        share: of what the graph types in its precision, the share that is computed so, 0..1.
        strays: the nodes of the rest, those that multiply most first.
    """

    macs: dict[str, int]
    share: float
    strays: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in self.macs.items())
        more = f" and {len(self.strays) - _NAMED} more" if len(self.strays) > _NAMED else ""
        return f"{self.share:.0%} ({counts}), not so {', '.join(self.strays[:_NAMED])}{more}"


def by_datatype(model: onnx.ModelProto, datatypes: Mapping[str, str], precision: str) -> Computed:
    """Return what kernels multiply in, and how much of it as the graph types it.

    Args:
        model: the typed graph.
        datatypes: of the kernel that does the work of each node, by the node's name.
        precision: of the graph.
    """
    counts = multiply_adds(model)
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[datatypes.get(name, "unknown")] += count
    kinds = {node.name: typed_kind(node, precision) for node in model.graph.node if node.name in counts}
    wanted = sum(counts[name] for name, kind in kinds.items() if kind)
    strays = [name for name, kind in kinds.items() if kind and datatypes.get(name) != kind]
    share = 1 - sum(counts[name] for name in strays) / wanted if wanted else 1.0
    return Computed(dict(found), share, tuple(sorted(strays, key=lambda name: -counts[name])))
