"""One check for any machine with an NVIDIA GPU, without network or data: gpu_check.sh calls it.

A seeded, untrained network goes through export, typing and every engine builder there is; then every backend there is
runs it, and its answers are compared with PyTorch eager's on the CPU. Each step has a process of its own; what cannot
run stands in the report with its reason. Exit code 0: something ran beside PyTorch eager, and whatever ran agrees; 1:
something disagrees, or nothing ran. The self-test also fails if anything is lacking that every machine can do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quillrt.compile.config import DEFAULT_PRECISIONS
from quillrt.compile.layers import TOLERANCES
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.files import write_text
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.tensorrt_api import FAMILIES

from .bench import network_input
from .contestants import Contestant, bundle_contestants, torch_contestants
from .environment import describe
from .gpu_steps import COPY_TIMES, DRIVERS, File
from .process import Remote
from .report import markdown_table, to_markdown
from .results import Result, Row
from .running import Settings, measure

_REFERENCE = "eager fp32"
_STEP_TIMEOUT_S = 240.0
_GPU = Settings(seconds=1.5)
_SELF_TEST = Settings(seconds=0.1, rounds=2)


@dataclass(frozen=True)
class Step:
    """One step: what the report tells of it, or the reason why it could not be done."""

    name: str
    seconds: float
    facts: Any = None
    reason: str | None = None


class Check:
    """The check under way: runs steps and keeps what became of them."""

    def __init__(self, log: Path) -> None:
        self.steps: list[Step] = []
        self._log = log

    def step(self, name: str, method: str, *args: Any) -> Any:
        """Call ``Steps.method(*args)`` in a new process and return what it made, ``None`` if it could not."""
        begin = perf_counter()
        made, facts, reason = None, None, None
        with Remote("quillrt.benchmarks.gpu_steps:Steps", self._log, name) as remote:
            try:
                made, facts = remote.ask(_STEP_TIMEOUT_S, method, *args)
            except BackendUnavailable as error:
                reason = str(error)
        self.steps.append(Step(name, perf_counter() - begin, facts, reason))
        sys.stderr.write(f"{name}: {reason or 'done'}\n")
        return made


def run_check(folder: Path, settings: Settings, *, self_test: bool = False) -> bool:
    """Run the check, write result.json, result.md and log.txt into ``folder``, and tell whether it passed.

    Raises:
        OSError: the folder cannot be written.
    """
    log = folder / "log.txt"
    write_text(log, "")
    check = Check(log)
    environment = describe()
    with tempfile.TemporaryDirectory() as work:
        source, images, contestants = _prepare(check, Path(work))
        for driver in DRIVERS:
            check.step(f"copies by {driver}", "copies", driver)
        rows = measure(contestants, images, settings, log) if contestants else ()
    result = Result({**asdict(settings), "source": source, "images": len(images)}, environment, rows)
    parity = judge(rows)
    lacking = self_test_lacks(parity, check.steps, settings.batches) if self_test else []
    passed = bool(parity) and all(verdict.passed for verdict in parity) and not lacking
    facts = {
        "passed": passed,
        "lacking": lacking,
        "parity": [{**asdict(v), "passed": v.passed} for v in parity],
        "steps": [asdict(s) for s in check.steps],
    }
    write_text(folder / "result.json", json.dumps({**result.to_json(), "check": facts}, allow_nan=False) + "\n")
    write_text(folder / "result.md", _markdown(result, check.steps, parity, lacking))
    return passed


def _prepare(check: Check, work: Path) -> tuple[str, NDArray[np.float32], list[Contestant]]:
    """Make the network, its graphs and engines; return the images' name, the images and who can be measured."""
    source, images = check.step("images", "images") or ("none", None)
    checkpoint, onnx = work / "network.safetensors", work / "network.onnx"
    spec = check.step("network", "network", images, checkpoint)
    if images is None or spec is None:
        return source, np.empty((0, 1, 1, 1), np.float32), []
    check.step("FP32 ONNX", "export", checkpoint, onnx)
    files: list[File] = []
    for precision in DEFAULT_PRECISIONS:
        graphs = check.step(f"{precision.value} graphs", "graphs", onnx, spec, images, precision) or []
        files += graphs
        for family in FAMILIES if graphs else ():
            files += check.step(f"{family} {precision.value} engine", "engine", graphs, precision, family) or []
    manifest = Manifest(spec, {}, tuple(entry for entry, _ in files))
    bundle = Bundle(work / "network.quill", manifest, {entry.path: data for entry, data in files}, "")
    contestants = [*torch_contestants(spec, checkpoint), *bundle_contestants(bundle)]
    return source, network_input(images, spec), contestants


@dataclass(frozen=True)
class Verdict:
    """Whether a row's logits are those of PyTorch eager on the CPU, as far as its precision allows."""

    name: str
    batch: int
    relative_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """The error is one that the precision explains."""
        return self.relative_error <= self.tolerance


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict on every row that ran, but for the reference; none if that itself did not run."""
    return [
        Verdict(row.name, row.batch, row.measured.agreement.relative_error, TOLERANCES[Precision(row.precision)])
        for row in rows
        if row.measured and row.name != _REFERENCE and row.measured.agreement.reference == _REFERENCE
    ]


def self_test_lacks(parity: Sequence[Verdict], steps: Sequence[Step], batches: Sequence[int]) -> list[str]:
    """Return what is lacking that needs no GPU: ONNX Runtime's verdicts, and TensorRT-RTX's engines if it is there."""
    done = {f"{v.name}, batch {v.batch}" for v in parity} | {step.name for step in steps if step.reason is None}
    needed = [
        f"onnxruntime-cpu {precision.value}, batch {batch}" for precision in DEFAULT_PRECISIONS for batch in batches
    ]
    if find_spec("tensorrt_rtx"):
        needed += [f"tensorrt-rtx {precision.value} engine" for precision in DEFAULT_PRECISIONS]
    return [name for name in needed if name not in done]


def _markdown(result: Result, steps: Sequence[Step], parity: Sequence[Verdict], lacking: Sequence[str] = ()) -> str:
    copies = [(step.name, line) for step in steps if step.name.startswith("copies") for line in step.facts or []]
    return "\n".join(
        (
            to_markdown(result, "GPU check"),
            f"## Parity with {_REFERENCE}\n",
            markdown_table(
                ("backend", "batch", "relative error", "tolerance", "verdict"),
                [
                    (v.name, str(v.batch), f"{v.relative_error:.1e}", f"{v.tolerance:g}", "ok" if v.passed else "WRONG")
                    for v in parity
                ],
            ),
            *(f"- lacking, so the self-test fails: {name}\n" for name in lacking),
            "## Copies between page-locked memory and the GPU, medians\n",
            markdown_table(
                ("driver", "bytes", "n", "H2D ms", "D2H ms", "round trip, host ms", "H2D GB/s", "D2H GB/s"),
                [
                    (name, f"{line['bytes']:,}", str(line["n"]), *(f"{line[key]:.4g}" for key in COPY_TIMES))
                    for name, line in copies
                ],
            ),
            "## Steps\n",
            markdown_table(
                ("step", "s", "outcome"), [(step.name, f"{step.seconds:.1f}", step.reason or "done") for step in steps]
            ),
        )
    )


def main() -> None:
    """Run the check from the command line."""
    parser = argparse.ArgumentParser(prog="gpu_check", description="Check and measure every backend on this machine.")
    parser.add_argument("folder", type=Path, help="gets result.json, result.md and log.txt")
    parser.add_argument("--self-test", action="store_true", help="short rows, and nothing that needs no GPU may fail")
    options = parser.parse_args()
    passed = run_check(options.folder, _SELF_TEST if options.self_test else _GPU, self_test=options.self_test)
    sys.stdout.write((options.folder / "result.md").read_text(encoding="utf-8"))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
