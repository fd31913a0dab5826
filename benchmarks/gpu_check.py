"""One check for any machine with an NVIDIA GPU, without network: gpu_check.sh calls it.

A trained network goes through export, typing and every engine builder there is; then every backend there is runs it in
every precision, and its answers are compared with PyTorch eager's on the CPU. Each step has a process of its own; what
cannot run stands in the report with its reason. Exit code 0: something ran beside PyTorch eager, and whatever ran
agrees; 1: something disagrees, or nothing ran. The self-test also fails if anything is lacking that every machine can
do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.compile.config import DEFAULT_PRECISIONS
from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.device import describe_device
from quillrt.runtime.errors import BackendUnavailable, QuillError
from quillrt.runtime.files import write_text
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.pretrained import find
from quillrt.runtime.tensorrt_api import FAMILIES

from .bench import network_input
from .contestants import Contestant, bundle_contestants, by_batch, graphed, torch_contestants, tuned
from .environment import describe
from .gpu_report import REFERENCE, Outcome, Step, Verdict, write_outcome
from .gpu_steps import DRIVERS, File
from .process import Remote
from .results import Result, Row
from .running import Settings, measure

PRECISIONS = (
    *(Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16),
    *(Precision.INT8, Precision.FP8),
)
_STEP_TIMEOUT_S = 240.0
_GPU = Settings(batches=(1, 8, 64, 1024), seconds=0.8, rounds=3, layers=True)
_SELF_TEST = Settings(batches=(1, 64), seconds=0.1, rounds=2, layers=True)
_MOST_IMAGES = 10_000
_SELF_TEST_IMAGES = 512
_PREPARING = 0.45  # of the time, for graphs and engines; measuring takes the rest
_REPORTING_S = 30.0  # for what is under way when the time is up
_MODES = (("mode", "reduce-overhead"), ("mode", "max-autotune"), ("io_binding", "0"))
_IN_MODES = ("fp32", "fp16")  # torch.compile takes seconds, or minutes, for each batch; so does TensorRT's builder


class Check:
    """The check under way: runs steps and keeps what became of them.

    Args:
        log: gets what the steps print.
        until: when no more step is begun, by ``monotonic``.
    """

    def __init__(self, log: Path, until: float) -> None:
        self.steps: list[Step] = []
        self._log, self._until = log, until

    def step(self, name: str, method: str, *args: Any) -> Any:
        """Call ``Steps.method(*args)`` in a new process and return what it made, ``None`` if it could not."""
        begin = perf_counter()
        made, facts, reason = None, None, None
        if monotonic() > self._until:
            reason = "the time for preparing was up before its turn; give more --minutes"
        else:
            with Remote("quillrt.benchmarks.gpu_steps:Steps", self._log, name) as remote:
                try:
                    made, facts = remote.ask(_STEP_TIMEOUT_S, method, *args)
                except BackendUnavailable as error:
                    reason = str(error)
        self.steps.append(Step(name, perf_counter() - begin, facts, reason))
        sys.stderr.write(f"{name}: {reason or 'done'}\n")
        return made


def run_check(
    folder: Path, settings: Settings, checkpoint: Path, data_root: Path | None = None, *, self_test: bool = False
) -> bool:
    """Run the check, write its report into ``folder``, and tell whether it passed.

    Args:
        folder: gets result.json, result.md, latency.png and log.txt.
        settings: how to measure, and how long all of it may take.
        checkpoint: the network.
        data_root: has MNIST in torchvision's layout; ``None``: the embedded digits, or noise.
        self_test: also judge what needs no GPU.

    Raises:
        OSError: the folder cannot be written.
    """
    begin, whole_s = monotonic(), settings.whole_s
    log = folder / "log.txt"
    write_text(log, "")
    check = Check(log, begin + _PREPARING * whole_s if whole_s else np.inf)
    environment = describe()
    most = _SELF_TEST_IMAGES if self_test else _MOST_IMAGES
    with tempfile.TemporaryDirectory() as work:
        for driver in DRIVERS:
            check.step(f"copies by {driver}", "copies", driver)
            check.step(f"CUDA graph by {driver}", "graph", driver)
        source, images, contestants = _prepare(check, Path(work), settings, checkpoint, data_root, most)
        left = begin + whole_s - _REPORTING_S - monotonic() if whole_s else None
        rows = measure(contestants, images, replace(settings, whole_s=left), log) if contestants else ()
    result = Result({**asdict(settings), "source": source, "images": len(images)}, environment, rows)
    parity = judge(rows)
    lacking = self_test_lacks(parity, check.steps, settings.batches) if self_test else []
    outcome = Outcome(result, tuple(check.steps), tuple(parity), tuple(lacking))
    write_outcome(outcome, folder)
    return outcome.passed


def _prepare(
    check: Check, work: Path, settings: Settings, checkpoint: Path, data_root: Path | None, most: int
) -> tuple[str, NDArray[np.float32], list[Contestant]]:
    """Make graphs and engines; return the images' name, the images and who can be measured."""
    source, images, training = check.step("images", "images", data_root) or ("none", None, None)
    spec = check.step("network", "network", checkpoint)
    if images is None or spec is None:
        return source, np.empty((0, 1, 1, 1), np.float32), []
    onnx = work / "network.onnx"
    if check.step("FP32 ONNX", "export", checkpoint, onnx) is None:  # this torch, or no onnxscript
        check.step("FP32 ONNX out of a bundle", "compiled", checkpoint, onnx)
    graphs: dict[Precision, list[File]] = {}
    engines: list[File] = []
    for precision in PRECISIONS:
        if precision is not Precision.TF32:  # which is an option of who computes the FP32 graph
            graphs[precision] = check.step(f"{precision.value} graphs", "graphs", onnx, spec, training, precision) or []
    for precision in PRECISIONS:
        typed = graphs.get(precision, graphs[Precision.FP32])
        for family in FAMILIES if typed else ():
            name = f"{family} {precision.value} engine"
            engines += check.step(name, "engine", typed, precision, family, settings.batches) or []
    files = [*(file for made in graphs.values() for file in made), *engines]
    manifest = Manifest(spec, {}, tuple(entry for entry, _ in files))
    bundle = Bundle(work / "network.quill", manifest, {entry.path: data for entry, data in files}, "")
    on_gpu = bool(describe_device().gpus)
    return source, network_input(images, spec, most), matrix(bundle, checkpoint, settings.batches, on_gpu=on_gpu)


def matrix(bundle: Bundle, checkpoint: Path, batches: Sequence[int], *, on_gpu: bool) -> list[Contestant]:
    """Return every backend in every precision, with CUDA graphs and without, and PyTorch's and onnxruntime's variants.

    Where there is a GPU, the CPU has the two rows that others are compared with, and no more.
    """
    spec = bundle.manifest.model
    everyone = [*torch_contestants(spec, checkpoint, PRECISIONS), *bundle_contestants(bundle)]
    rows = [
        row
        for row in graphed(tuned(everyone, {}, _MODES))
        if not row.options or (row.precision in _IN_MODES and _is_gpus(row.backend))
    ]
    references = (REFERENCE, "onnxruntime-cpu fp32")
    return by_batch([row for row in rows if not on_gpu or row.name in references or _is_gpus(row.backend)], batches)


def _is_gpus(backend: str) -> bool:
    return backend.endswith(("-cuda", "-tensorrt")) or backend in FAMILIES


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict on every row that ran, but for the reference; none if that itself did not run."""
    return [
        Verdict(row.name, row.batch, row.measured.agreement, TOLERANCES[Precision(row.precision)])
        for row in rows
        if row.measured and row.name != REFERENCE and row.measured.agreement.reference == REFERENCE
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


def main() -> None:
    """Run the check from the command line."""
    parser = argparse.ArgumentParser(prog="gpu_check", description="Check and measure every backend on this machine.")
    parser.add_argument("folder", type=Path, help="gets result.json, result.md, latency.png and log.txt")
    parser.add_argument("--checkpoint", type=Path, help="the network; the pretrained digits if not given")
    parser.add_argument(
        "--data-root",
        type=Path,
        default=os.environ.get("QUILLRT_DATA"),
        help="folder with MNIST in torchvision's layout (or QUILLRT_DATA); else the embedded digits",
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="what has not begun by then is left out (8)")
    parser.add_argument("--self-test", action="store_true", help="short rows, and nothing that needs no GPU may fail")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    settings = replace(_SELF_TEST if options.self_test else _GPU, threads=min(8, cores), whole_s=60 * options.minutes)
    try:
        checkpoint = options.checkpoint or find("digits", ".safetensors")
        passed = run_check(options.folder, settings, checkpoint, options.data_root, self_test=options.self_test)
    except (QuillError, OSError) as error:
        sys.exit(f"gpu_check: {error}")
    sys.stdout.write((options.folder / "result.md").read_text(encoding="utf-8"))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
