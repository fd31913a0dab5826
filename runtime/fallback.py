"""Whether an engine multiplies in the precision that its graph asks for: told where there is no ONNX to look into."""

from __future__ import annotations

from .bundle import Bundle
from .manifest import Entry
from .precision import Precision
from .strict_json import read_json
from .trt_build import BuiltEngine

LEAST_SHARE = 0.9  # of what a graph asks to compute in its precision
_QUANTIZED = (Precision.INT8, Precision.MIXED, Precision.FP8)


def fallback(bundle: Bundle, graph: Entry, built: BuiltEngine) -> str | None:
    """Return in one line that too few products were built in the precision of ``graph``; ``None``: nothing known.

    Products are counted, for what each multiplies stands in no engine; where its builder lists none, nobody can say.
    """
    products = built.precisions()
    whole, typed = sum(products.values()), _typed(bundle, graph)
    right = sum(min(products.get(kind, 0), share * whole) for kind, share in typed.items())
    if right >= LEAST_SHARE * whole * sum(typed.values()):
        return None
    found = ", ".join(f"{kind} × {count}" for kind, count in products.items())
    precision = graph.precision.value if graph.precision else ""
    return (
        f"expected {built.family} to build {LEAST_SHARE:.0%} of the products that {graph.path} has in {precision} so, "
        f"found {found}"
    )


def _typed(bundle: Bundle, graph: Entry) -> dict[str, float]:
    """Return the share of its products that ``graph`` asks to compute in each datatype, without FP32 beside INT8.

    How many of a quantized graph's are quantized stands in the compiler's report; without one it should be all.
    """
    if graph.precision not in _QUANTIZED:
        return {graph.precision.value: 1.0} if graph.precision else {}
    try:
        nodes = read_json(bundle.files["report.json"])["nodes"][graph.path]
        quantized = sum(bool(node["quantized"]) for node in nodes) / len(nodes)
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        quantized = 1.0
    if graph.precision is Precision.MIXED:
        return {Precision.INT8.value: quantized, Precision.FP16.value: 1 - quantized}
    return {graph.precision.value: quantized}
