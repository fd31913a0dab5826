"""Ready choices of rows and effort: a first look, the whole comparison on a CPU, the whole comparison on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quillrt.runtime.errors import ConfigError

_NO_VARIANTS: tuple[Mapping[str, str], ...] = ()
# PyTorch done right: its own memory format and bfloat16, alone and together, and every mode of its compiler.
_TORCH: tuple[Mapping[str, str], ...] = (
    {"memory_format": "channels_last"},
    {"autocast": "bfloat16"},
    {"memory_format": "channels_last", "autocast": "bfloat16"},
    {"mode": "reduce-overhead"},
    {"mode": "max-autotune"},
    {"mode": "max-autotune", "memory_format": "channels_last", "autocast": "bfloat16"},
)


@dataclass(frozen=True)
class Preset:
    """What a preset chooses; what is asked for besides takes its place.

    Attributes:
        seconds: measured per row.
        rounds: in how many turns.
        builds: over how many sessions.
        batches: images in a query; ``None``: the scenario's.
        images: that answers are compared on, at most.
        checked_queries: most queries of a row that they are compared in.
        variants: one more row each.
        peers: others' ways to measure.
        cuda_graphs: one more row, with CUDA graphs, of each backend that makes them.
        on_gpu: rows on GPUs, and of the CPU's the references alone.
        roofline: each row's place under the machine's peaks.
    """

    seconds: float = 3.0
    rounds: int = 5
    builds: int = 1
    batches: tuple[int, ...] | None = None
    images: int = 2000
    checked_queries: int = 2000
    variants: tuple[Mapping[str, str], ...] = _NO_VARIANTS
    peers: tuple[str, ...] = ()
    cuda_graphs: bool = False
    on_gpu: bool = False
    roofline: bool = False


PRESETS = {
    "quick": Preset(seconds=1.0, images=500),
    "full": Preset(
        rounds=21,  # short ones: what slows a machine down for a second meets all rows then
        builds=3,  # a process places its memory as it happens to, which bfloat16 in eager feels by a tenth
        images=10_000,
        variants=_TORCH,
        peers=("onnxruntime-loop", "openvino-benchmark-app", "litert-benchmark"),
        roofline=True,
    ),
    "gpu": Preset(
        rounds=9,
        batches=(1, 8, 64, 1024),
        images=10_000,
        variants=(*_TORCH, {"io_binding": "0"}),
        peers=("onnxruntime-loop", "trtexec"),
        cuda_graphs=True,
        on_gpu=True,
        roofline=True,
    ),
}


def preset(name: str | None) -> Preset:
    """Return the preset called ``name``, or the choices where none is named.

    Raises:
        ConfigError: none has this name.
    """
    if name is not None and name not in PRESETS:
        raise ConfigError(f"expected a preset out of {', '.join(PRESETS)}, found {name!r}")
    return Preset() if name is None else PRESETS[name]
