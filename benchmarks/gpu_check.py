"""One check for any machine with an NVIDIA GPU, without network: gpu_check.sh calls it.

A trained network goes through export, typing and every engine builder there is; then every backend there is runs it in
every precision, and its answers are compared with PyTorch eager's on the CPU. Each step has a process of its own; what
cannot run stands in the report with its reason. The report is written anew after each step and each group of rows.
Exit code 0: something ran beside PyTorch eager, whatever ran agrees, and where there is a GPU nothing is lacking that
could have run on it; else 1. The self-test also fails if anything is lacking that every machine can do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.device import describe_device
from quillrt.runtime.errors import BackendUnavailable, QuillError
from quillrt.runtime.files import write_text
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.pretrained import find
from quillrt.runtime.tensorrt_api import FAMILIES
from quillrt.runtime.termination import exit_on_sigterm

from .attempts import Attempt
from .bench import network_input
from .comparing import REFERENCES, judged
from .contestants import Contestant
from .environment import describe
from .environment import ended as finished
from .gpu_matrix import PRECISIONS, in_groups, matrix, processes_at_once
from .gpu_report import Outcome, Step, write_outcome
from .gpu_steps import DRIVERS, File
from .gpu_verdict import EXPORT, NO_TIME, OUT_OF_BUNDLE, gpu_lacks, judge, self_test_lacks
from .moment import warnings
from .process import NoAnswer, Remote
from .results import Result, Rotation, Row
from .rotation import plan, spread
from .running import Settings, attempts_of, rows_of

_STEP_TIMEOUT_S = 240.0
_GPU = Settings(batches=(1, 8, 64, 1024), seconds=0.8, rounds=3, layers=True, checked_queries=1024)
_SELF_TEST = Settings(batches=(1, 64), seconds=0.1, rounds=2, layers=True)
_MOST_IMAGES = 10_000
_SELF_TEST_IMAGES = 512
_PREPARING = 0.45  # of the time, for graphs and engines; measuring takes the rest
_REPORTING_S = 30.0  # for what is under way when the time is up


class Check:
    """The check under way: whatever it finds is in its report at once, so that a check that is killed leaves that.

    Args:
        folder: gets the report, and in log.txt what the libraries print.
        settings: how to measure, and how long all of it may take.
        self_test: also judge what needs no GPU.
    """

    def __init__(self, folder: Path, settings: Settings, *, self_test: bool = False) -> None:
        self.steps: list[Step] = []
        about = {"source": "none", "images": 0, "preset": None, "provider_options": {}}
        self.facts: dict[str, Any] = {**asdict(settings), **about}
        self._rotation = Rotation("none", 0, 0, 0, None)
        self._rows: list[Row] = []
        self._contestants: Sequence[Contestant] = ()
        self._folder, self._settings, self._self_test = folder, settings, self_test
        self._log = folder / "log.txt"
        write_text(self._log, "")
        self._begin = monotonic()
        self._environment = describe()
        self._gpu = next(iter(describe_device().gpus), None)

    def step(self, name: str, method: str, *args: Any) -> Any:
        """Call ``Steps.method(*args)`` in a new process and return what it made, ``None`` if it could not."""
        begin = perf_counter()
        made, facts, reason = None, None, None
        if self._left_s(_PREPARING) < 0:
            reason = f"{NO_TIME} before its turn; give more --minutes"
        else:
            timeout_s = min(_STEP_TIMEOUT_S, max(self._left_s() - _REPORTING_S, 1.0))
            with Remote("quillrt.benchmarks.gpu_steps:Steps", self._log, name) as remote:
                try:
                    made, facts = remote.ask(timeout_s, method, *args)
                except NoAnswer as error:
                    late = timeout_s < _STEP_TIMEOUT_S
                    reason = f"{NO_TIME} in its turn: {error}; give more --minutes" if late else str(error)
                except BackendUnavailable as error:
                    reason = str(error)
        self.steps.append(Step(name, perf_counter() - begin, facts, reason))
        sys.stderr.write(f"{name}: {reason or 'done'}\n")
        self.write()
        return made

    def measure(self, contestants: Sequence[Contestant], images: NDArray[np.float32]) -> None:
        """Measure group after group; each may take its part of the time that is left, the references what they need."""
        self._contestants = contestants
        if len(images):
            self._rotation = plan(images, self.facts["source"])
        groups = in_groups(contestants, processes_at_once(self._environment["memory_bytes"], self._gpu))
        references: list[Attempt] = []
        for number, group in enumerate(groups):
            able = [sum(contestant.reason is None for contestant in each) for each in groups[number:]]
            share = 1.0 if group[0].name in REFERENCES else able[0] / (sum(able) or 1)
            whole_s = share * (self._left_s() - _REPORTING_S) if self._settings.whole_s else None
            attempts = attempts_of(group, images, replace(self._settings, whole_s=whole_s), self._log)
            self._rows += rows_of(attempts, references)
            references += [attempt for attempt in attempts if attempt.contestant.name in REFERENCES]
            if able[0]:
                self.write()

    def write(self, *, ended: bool = False) -> Outcome:
        """Write the report of what there is, and the plot once the check has ``ended``."""
        batches, names = self._settings.batches, [contestant.name for contestant in self._contestants]
        rows = tuple(sorted(self._rows, key=lambda row: (batches.index(row.batch), names.index(row.name))))
        parity = judge(rows)
        lacking = [] if ended else ["the rest: the check had not ended when this was written"]
        if self._self_test:
            lacking += self_test_lacks(parity, self.steps, batches)
        lacking += gpu_lacks(self._contestants, rows, self.steps, self._gpu)
        environment = finished(self._environment) if ended else self._environment
        rows, baseline, winners = judged(rows)
        result = Result(
            self.facts,
            environment,
            rows,
            self._rotation,
            baseline,
            winners,
            warnings=tuple(warnings(environment, self._settings.threads)),
        )
        outcome = Outcome(result, tuple(self.steps), tuple(parity), tuple(lacking))
        write_outcome(outcome, self._folder, plot=ended)
        return outcome

    def _left_s(self, part: float = 1.0) -> float:
        """Return the seconds left of ``part`` of the whole time."""
        whole_s = self._settings.whole_s
        return np.inf if whole_s is None else self._begin + part * whole_s - monotonic()


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
    check = Check(folder, settings, self_test=self_test)
    with tempfile.TemporaryDirectory() as work:
        for driver in DRIVERS:
            check.step(f"copies by {driver}", "copies", driver)
            check.step(f"CUDA graph by {driver}", "graph", driver)
        most = _SELF_TEST_IMAGES if self_test else _MOST_IMAGES
        check.measure(*_prepare(check, Path(work), settings.batches, checkpoint, data_root, most))
    return check.write(ended=True).passed


def _prepare(
    check: Check, work: Path, batches: Sequence[int], checkpoint: Path, data_root: Path | None, most: int
) -> tuple[list[Contestant], NDArray[np.float32]]:
    """Make graphs and engines; return who can be measured, and the images."""
    source, images, training = check.step("images", "images", data_root) or ("none", None, None)
    spec = check.step("network", "network", checkpoint)
    if images is None or spec is None:
        return [], np.empty((0, 1, 1, 1), np.float32)
    onnx = work / "network.onnx"
    if check.step(EXPORT, "export", checkpoint, onnx) is None:  # this torch, or no onnxscript
        check.step(OUT_OF_BUNDLE, "compiled", checkpoint, onnx)
    graphs: dict[Precision, list[File]] = {}
    engines: list[File] = []
    for precision in PRECISIONS:
        if precision is not Precision.TF32:  # which is an option of who computes the FP32 graph
            graphs[precision] = check.step(f"{precision.value} graphs", "graphs", onnx, spec, training, precision) or []
    for precision in PRECISIONS:
        typed = graphs.get(precision, graphs[Precision.FP32])
        for family in FAMILIES if typed else ():
            name = f"{family} {precision.value} engine"
            engines += check.step(name, "engine", typed, precision, family, batches) or []
    files = [*(file for made in graphs.values() for file in made), *engines]
    manifest = Manifest(spec, {}, tuple(entry for entry, _ in files))
    bundle = Bundle(work / "network.quill", manifest, {entry.path: data for entry, data in files}, "")
    tensors = network_input(images.take(spread(len(images), most)), spec)
    check.facts |= {"source": source, "images": len(tensors)}
    return matrix(bundle, checkpoint, batches, on_gpu=bool(describe_device().gpus)), tensors


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
    exit_on_sigterm()
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
