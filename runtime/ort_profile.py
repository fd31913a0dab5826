"""What each kernel of an ONNX graph takes on onnxruntime's CPU provider, by onnxruntime's own profile."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ort import CpuSession
from .session import SessionOptions
from .spec import ModelSpec
from .trt_layers import LayerInfo

# As onnxruntime names the type of a tensor.
_DATATYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint8": "int8", "int8": "int8"}
_KERNEL = "_kernel_time"
# onnxruntime writes of a node's name whose cast it removed, or that it fused, moved to another layout or made anew.
_NODE = re.compile(r"(?:InsertedPrecisionFreeCast_|fused )*(?P<node>.*?)(?:_nchwc|_token_\d+)*")


def profile(
    model: bytes,
    spec: ModelSpec,
    batch: NDArray[np.float32],
    queries: int = 1,
    options: SessionOptions = SessionOptions(),
) -> list[tuple[LayerInfo, float]]:
    """Return each kernel, named after its node, in the order in which they run, and its time of a query in ms.

    The time is the mean of ``queries`` queries after one more; profiling itself takes some microseconds a kernel.

    Args:
        model: an ONNX graph.
        spec: what goes in and comes out.
        batch: images float32 (N, C, H, W).
        queries: over which to take the mean.
        options: of the session.

    Raises:
        BackendUnavailable: onnxruntime is missing.
        BundleError: it refuses the graph.
        SpecError: the batch has another type or shape.
    """
    with (
        tempfile.TemporaryDirectory() as folder,  # the profile is a file
        _Profiled(model, spec, options, Path(folder, "profile")) as session,
    ):
        for _ in range(queries + 1):
            session.run(batch)
        events = json.loads(session.end().read_text(encoding="utf-8"))
    kernels = sorted((e for e in events if e["name"].endswith(_KERNEL)), key=lambda event: event["ts"])
    found: dict[str, LayerInfo] = {}
    total_us: dict[str, float] = {}
    for event in kernels[len(kernels) // (queries + 1) :]:  # every query runs the same kernels
        name, arguments = event["name"].removesuffix(_KERNEL), event["args"]
        read = next((kind for tensor in arguments["input_type_shape"] for kind in tensor), "")
        found[name] = LayerInfo(name, arguments["op_name"], _DATATYPES.get(read, read), (node_of(name),))
        total_us[name] = total_us.get(name, 0.0) + event["dur"]
    return [(layer, total_us[name] / queries / 1000) for name, layer in found.items()]


def node_of(kernel: str) -> str:
    """Return the name of the graph's node that onnxruntime called ``kernel`` after."""
    found = _NODE.fullmatch(kernel)
    return found["node"] if found else kernel


class _Profiled(CpuSession):
    """A session that keeps a profile of all its queries."""

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions, prefix: Path) -> None:
        self._prefix = prefix
        super().__init__(model, spec, options)

    def _settings(self, options: SessionOptions) -> Any:
        settings = super()._settings(options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(self._prefix)
        return settings

    def end(self) -> Path:
        """Return the file of the profile, which then is whole."""
        return Path(self._session.end_profiling())
