"""Who takes part in the GPU check, and in which groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.device import Gpu
from quillrt.runtime.precision import Precision

from .comparing import REFERENCES
from .contestants import Contestant, bundle_contestants, is_gpus, torch_contestants
from .variants import by_batch, graphed, tuned

PRECISIONS = (
    *(Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16),
    *(Precision.INT8, Precision.FP8),
)
_MODES = ({"mode": "reduce-overhead"}, {"mode": "max-autotune"}, {"io_binding": "0"})
_IN_MODES = ("fp32", "fp16")  # torch.compile takes seconds, or minutes, for each batch; so does TensorRT's builder
# A CUDA context takes 0.3 to 0.5 GB, PyTorch's libraries 1 GB more of a Jetson's memory, and nothing else may be small.
_PROCESS_BYTES = 2 * 2**30
_LEAST = 2  # with a CUDA graph and without


def matrix(bundle: Bundle, checkpoint: Path, batches: Sequence[int], *, on_gpu: bool) -> list[Contestant]:
    """Return every backend in every precision, with CUDA graphs and without, and PyTorch's and onnxruntime's variants.

    Where there is a GPU, the CPU has the two rows that others are compared with, and no more.
    """
    spec = bundle.manifest.model
    everyone = [*torch_contestants(spec, checkpoint, PRECISIONS), *bundle_contestants(bundle)]
    rows = [
        row
        for row in graphed(tuned(everyone, {}, _MODES))
        if not row.options or (row.precision in _IN_MODES and is_gpus(row.backend))
    ]
    return by_batch([row for row in rows if not on_gpu or row.name in REFERENCES or is_gpus(row.backend)], batches)


def in_groups(contestants: Sequence[Contestant], most: int) -> list[list[Contestant]]:
    """Return the references, then each backend's contestants, up to ``most`` in a group, which are loaded together.

    Those of one batch size alone are a group of their own, for each builds an engine when it is loaded. torch.compile
    comes last: it compiles for as long as it is let, and the others leave it what they do not need.
    """
    groups: dict[tuple[str, int | None], list[Contestant]] = {("", None): []}
    for contestant in contestants:
        key = ("", None) if contestant.name in REFERENCES else (contestant.backend, contestant.batch)
        groups.setdefault(key, []).append(contestant)
    ordered = sorted(groups.values(), key=lambda group: bool(group) and group[0].backend.startswith("torch-compile"))
    return [group[start : start + most] for group in ordered for start in range(0, len(group), most)]


def processes_at_once(memory_bytes: int, gpu: Gpu | None) -> int:
    """Return how many contestants' processes fit at once into ``memory_bytes``, the processor's, and into the GPU's."""
    return max(_LEAST, min(memory_bytes, gpu.memory_bytes if gpu else memory_bytes) // _PROCESS_BYTES)
