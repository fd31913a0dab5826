"""What a loaded engine tells of its kernels: TensorRT's EngineInspector and IProfiler."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from .trt_layers import LayerInfo, LayerTime, datatype_of, nodes_in


def inspect_engine(trt: Any, engine: Any) -> tuple[LayerInfo, ...]:
    """Return the kernels of ``engine``, an ``ICudaEngine`` of the module ``trt`` whose device is current."""
    inspector = engine.create_engine_inspector()
    return read_information(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def read_information(text: str) -> tuple[LayerInfo, ...]:
    """Return the kernels in the JSON of an EngineInspector.

    TensorRT 10 writes a tensor's type and format as one text, ``"Format/Datatype": "Row major linear FP32"``; 11 and
    TensorRT-RTX write ``"Datatype": "Float"`` beside ``"Format"``. An engine without detailed verbosity has names
    where its layers should be, and nothing is returned.
    """
    layers = json.loads(text).get("Layers", [])
    return tuple(info for layer in layers if isinstance(layer, dict) and (info := _layer(layer)))


def _layer(layer: dict[str, Any]) -> LayerInfo | None:
    """Return one kernel; ``None`` for what reads no tensor, such as the computation of a shape on the processor."""
    inputs = layer.get("Inputs") or []
    if not inputs:
        return None
    datatype = datatype_of(str(inputs[0].get("Datatype") or inputs[0].get("Format/Datatype") or ""))
    if not datatype:
        return None
    return LayerInfo(
        str(layer.get("Name", "")), str(layer.get("LayerType", "")), datatype, nodes_in(str(layer.get("Metadata", "")))
    )


def layer_times(
    trt: Any, run: Callable[[Any], None], queries: int, layers: Sequence[LayerInfo]
) -> tuple[LayerTime, ...]:
    """Return each layer's time in the order in which they run.

    Args:
        trt: TensorRT's module.
        run: is called with an ``IProfiler`` and runs ``queries`` queries under it.
        queries: over which to take the mean.
        layers: what the engine tells of its kernels.
    """
    total: defaultdict[str, float] = defaultdict(float)

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # pybind11 wants its own constructor called

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            total[layer_name] += ms

    run(Profiler())
    known = {layer.name: layer for layer in layers}
    told = (known.get(name, LayerInfo(name, "", "", ())) for name in total)
    return tuple(LayerTime(**vars(layer), ms=total[layer.name] / queries) for layer in told)
