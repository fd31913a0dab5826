"""When the GPU check passes: whose answers are right, and what should have run and did not."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from quillrt.compile.config import DEFAULT_PRECISIONS
from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.backends import why_unavailable
from quillrt.runtime.device import Gpu
from quillrt.runtime.engine_fit import cannot_build
from quillrt.runtime.precision import Precision
from quillrt.runtime.tensorrt_api import FAMILIES

from .contestants import Contestant, is_gpus
from .deadline import LATE
from .gpu_matrix import PRECISIONS
from .gpu_report import REFERENCE, Step, Verdict
from .gpu_steps import NEEDS
from .results import Row

NO_TIME = "the time for preparing was up"
EXPORT, OUT_OF_BUNDLE = "FP32 ONNX", "FP32 ONNX out of a bundle"  # the second takes the first's place


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict on every row that ran, but for the reference; none if that itself did not run."""
    return [
        Verdict(row.name, row.batch, row.measured.agreement, TOLERANCES[Precision(row.precision)])
        for row in rows
        if row.measured
        and row.measured.agreement
        and row.name != REFERENCE
        and row.measured.agreement.reference == REFERENCE
    ]


def self_test_lacks(parity: Sequence[Verdict], steps: Sequence[Step], batches: Sequence[int]) -> list[str]:
    """Return what is lacking that needs no GPU: ONNX Runtime's verdicts, and TensorRT-RTX's engines if it is there."""
    done = {f"{v.name}, batch {v.batch}" for v in parity} | {step.name for step in steps if step.reason is None}
    needed = [
        f"onnxruntime-cpu {precision.value}, batch {batch}" for precision in DEFAULT_PRECISIONS for batch in batches
    ]
    if find_spec("tensorrt_rtx"):
        needed += [f"tensorrt-rtx {precision.value} engine" for precision in PRECISIONS]
    return [name for name in needed if name not in done]


def gpu_lacks(
    contestants: Sequence[Contestant], rows: Sequence[Row], steps: Sequence[Step], gpu: Gpu | None
) -> list[str]:
    """Return what is lacking on a machine with this GPU, none of it where there is none.

    That is each step and row that failed although nothing was known against it, each backend of which nothing was
    measured although it could have been, and, if need be, any row on the GPU. What the time did not suffice for is no
    failure as long as something of its backend was measured.
    """
    if gpu is None:
        return []
    lacking = [f"{step.name}: {step.reason}" for step in _failed(steps, gpu)]
    known = {contestant.name for contestant in contestants if contestant.reason}
    failed: dict[tuple[str, str], list[str]] = {}  # name, reason -> batch sizes
    for row in rows:
        if row.measured is None and row.name not in known and not str(row.reason).startswith(LATE):
            failed.setdefault((row.name, str(row.reason)), []).append(str(row.batch))
    lacking += [f"{name}, batch {', '.join(batches)}: {reason}" for (name, reason), batches in failed.items()]
    measured = {row.backend for row in rows if row.measured}
    able = dict.fromkeys(c.backend for c in contestants if not c.reason or (_without_file(c) and is_gpus(c.backend)))
    lacking += [f"{backend}: nothing of it was measured" for backend in able if backend not in measured]
    if not any(is_gpus(backend) for backend in measured):
        lacking.append("any row on the GPU")
    return lacking


def _without_file(contestant: Contestant) -> bool:
    """Tell whether a backend that works here got no file."""
    return contestant.precision is None and why_unavailable(contestant.backend) is None


def _failed(steps: Sequence[Step], gpu: Gpu) -> list[Step]:
    """Return the steps that failed, but for want of time, of a package or of what this GPU has not."""
    misfits = {
        f"{family} {precision.value} engine"
        for family in FAMILIES
        for precision in PRECISIONS
        if why_unavailable(family) or cannot_build(precision, gpu)
    }
    if any(step.name == OUT_OF_BUNDLE and step.reason is None for step in steps):
        misfits.add(EXPORT)
    return [
        step
        for step in steps
        if step.reason and step.name not in misfits and not step.reason.startswith((NO_TIME, NEEDS))
    ]
