"""The ONNX graphs of a bundle: one per precision, and for INT8 one per kind of engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.backends import CPU_BACKENDS, ONNX_ON_CPU
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.errors import ConfigError, ExportError
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.tensorrt_api import FAMILIES
from quillrt.runtime.versions import versions

from .bf16 import to_bf16
from .fp16 import to_fp16
from .litert import to_litert
from .macs import multiply_adds
from .quantize import CPU, ONNXRUNTIME, TENSORRT, TENSORRT_FP8, NodeDecision, Recipe, quantize
from .source import Source

if TYPE_CHECKING:
    import onnx

File = tuple[Entry, bytes]
ORT_TENSORRT = "onnxruntime-tensorrt"  # takes what TensorRT's builders take
LITERT = "litert"


def recipe_for(target: str) -> Recipe:
    """Return what ``target`` wants of an INT8 graph; for LiteRT, which has a format of its own, the nearest to it.

    Raises:
        ConfigError: no target has this name.
    """
    recipes = {**dict.fromkeys(CPU_BACKENDS, CPU), "onnxruntime-cpu": ONNXRUNTIME, **dict.fromkeys(FAMILIES, TENSORRT)}
    if target not in recipes:
        raise ConfigError(f"expected a target out of {', '.join(recipes)}, found {target}")
    return recipes[target]


def recipes_for(targets: Iterable[str]) -> tuple[Recipe, ...]:
    """Return the recipes of the INT8 graphs that stand for ``targets``: those for CPUs are made together."""
    made = (each for target in targets for each in (ONNX_ON_CPU if target in ONNX_ON_CPU else (target,)))
    return tuple(dict.fromkeys(map(recipe_for, made)))


def typed_graphs(
    source: Source,
    precisions: Sequence[Precision],
    targets: Sequence[str],
    table: CalibrationTable | None,
    excluded: Sequence[str] = (),
) -> tuple[list[File], dict[str, tuple[NodeDecision, ...]]]:
    """Return the FP32 graph and one for each other precision, and by path which nodes were quantized.

    The graphs for TensorRT are made whatever the targets, so that a device can build its engine from them; those for
    onnxruntime and OpenVINO on CPUs are made together, in one file where they are the same.

    Raises:
        CalibrationError: ``table`` lacks an activation.
        ConfigError: a name in ``excluded`` is none of a node that could be quantized, or nothing else is left to be.
        ExportError: a pass made a graph that is not valid ONNX, fp8 in a graph too old for it, or a node that LiteRT
            does not get.
    """
    files = [_file(source.graph, "fp32", Precision.FP32, (ORT_TENSORRT, "onnxruntime-cuda", *ONNX_ON_CPU), FAMILIES)]
    decisions: dict[str, tuple[NodeDecision, ...]] = {}
    if Precision.FP16 in precisions:
        typed = to_fp16(source.graph)
        files.append(
            _file(typed, "fp16", Precision.FP16, (ORT_TENSORRT, "onnxruntime-cuda", "onnxruntime-cpu"), FAMILIES)
        )
    if Precision.BF16 in precisions:
        files.append(_file(to_bf16(source.graph), "bf16", Precision.BF16, (), FAMILIES))
    wanted: list[tuple[str, Precision, Recipe, tuple[str, ...], tuple[str, ...]]] = []
    if Precision.INT8 in precisions:
        wanted.append(("int8.tensorrt", Precision.INT8, TENSORRT, (ORT_TENSORRT,), FAMILIES))
    if Precision.INT8 in precisions and any(target in ONNX_ON_CPU for target in targets):
        for target in ONNX_ON_CPU:
            name = "int8.cpu" if target == "onnxruntime-cpu" else f"int8.{target}"
            wanted.append((name, Precision.INT8, recipe_for(target), (target,), ()))
    if Precision.MIXED in precisions:
        wanted.append(("mixed", Precision.MIXED, TENSORRT, (ORT_TENSORRT,), FAMILIES))
    if Precision.FP8 in precisions:
        wanted.append(("fp8", Precision.FP8, TENSORRT_FP8, (ORT_TENSORRT,), FAMILIES))
    if table is not None:
        for name, precision, recipe, backends, builders in wanted:
            typed, taken = quantize(source.graph, table.ranges, recipe, excluded)
            if excluded and not any(decision.quantized for decision in taken):
                raise ConfigError(
                    f"expected a node that {precision.value} computes, found all of them excluded or refused; "
                    f"take an --exclude back, or leave {precision.value} out"
                )
            if precision is Precision.MIXED:
                typed = to_fp16(typed)
            entry, data = _file(typed, name, precision, backends, builders, table)
            earlier, known = files[-1]
            if data == known and (earlier.precision, earlier.typed_for) == (precision, builders):
                files[-1] = (replace(earlier, backends=(*earlier.backends, *backends)), data)
                continue
            files.append((entry, data))
            decisions[entry.path] = taken
    if LITERT in targets:
        for precision in (Precision.FP32, Precision.INT8):
            if precision in precisions and (precision is Precision.FP32 or table is not None):
                file, taken = _litert_file(source.graph, precision, table, excluded)
                files.append(file)
                decisions[file[0].path] = taken
    return files, decisions


def _litert_file(
    graph: onnx.ModelProto, precision: Precision, table: CalibrationTable | None, excluded: Sequence[str]
) -> tuple[File, tuple[NodeDecision, ...]]:
    quantized = table if precision is Precision.INT8 else None
    data, decisions = to_litert(graph, quantized.ranges if quantized else None, excluded)
    products: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    quantized_nodes = {decision.name for decision in decisions if decision.quantized}
    for name, count in multiply_adds(graph).items():
        kind = "int8" if name in quantized_nodes else "fp32"
        products[kind] += 1
        macs[kind] += count
    file = entry_for(
        data,
        f"model.{precision.value}.litert.tflite",
        "engine",
        precision=precision,
        backends=(LITERT,),
        tools=versions("quillrt", "ai-edge-litert"),
        built_for={"products": dict(products), "macs": dict(macs)},
        calibration=quantized.fingerprint if quantized else None,
        calibrated=quantized.origin if quantized else "",
    )
    return file, decisions


def _file(
    graph: onnx.ModelProto,
    name: str,
    precision: Precision,
    backends: tuple[str, ...],
    builders: tuple[str, ...],
    table: CalibrationTable | None = None,
) -> File:
    import onnx

    try:
        # ONNX has BF16 convolutions since opset 22, which TensorRT 10.3 cannot read; TensorRT takes them in any opset.
        onnx.checker.check_model(graph, full_check=precision is not Precision.BF16)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the {precision.value} pass made an invalid graph: {' '.join(str(error).split())[:200]}; "
            f"leave {precision.value} out and report it with the model"
        ) from error
    return entry_for(
        graph.SerializeToString(deterministic=True),
        f"model.{name}.onnx",
        "onnx",
        precision=precision,
        backends=backends,
        typed_for=builders,
        tools=versions("quillrt", "onnx", "onnxruntime"),
        calibration=table.fingerprint if table else None,
        calibrated=table.origin if table else "",
    )
