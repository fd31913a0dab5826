"""The workers of peers: a bare loop around onnxruntime, and programs that measure by themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec

from .contestants import Contestant
from .measured import Warmup
from .memory import Usage
from .rotation import Files
from .worker import Bench, Ran

LITERT_BENCHMARK = "ai_edge_litert.tools.benchmark_litert_model"
_FIRST_QUERIES = 100
_TIMEOUT_S = 240.0


def _bytes(contestant: Contestant) -> bytes:
    model = contestant.model
    return model.read_bytes() if isinstance(model, Path) else model


class OnnxRuntimeLoop(Bench):
    """The loop that one would write by hand around ``InferenceSession.run``."""

    def _opened(self, contestant: Contestant, options: SessionOptions) -> Session:
        return _Bare(_bytes(contestant), contestant.spec, options)


class _Bare(Session):
    """onnxruntime's own session as its documentation opens and runs it, with nothing of ours around it."""

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        self._spec = spec
        self._session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(None, {self._name: batch})[0]
        return logits

    def close(self) -> None:
        self._session = None


class Tool:
    """A program that measures by itself: it is given the model, and its median is read from what it writes."""

    file: ClassVar[str]

    def open(
        self, contestant: Contestant, files: Files, options: SessionOptions, build: int
    ) -> tuple[float, float | None]:
        """Write the model where the program can read it."""
        self._folder = tempfile.TemporaryDirectory(prefix="quillrt-peer-")
        self._model = Path(self._folder.name) / self.file
        self._model.write_bytes(_bytes(contestant))
        self._spec, self._threads, self._device = contestant.spec, options.threads, options.device
        self._host_code = contestant.host_code
        self._median_ms: dict[int, float] = {}
        return 0.0, None

    def check(self, batch: int, most: int) -> None:
        """It keeps its answers to itself."""

    def warm(self, batch: int, limit_s: float) -> tuple[Warmup | None, float]:
        """It warms up by itself."""
        return None, 0.0

    def round(self, batch: int, seconds: float, least: int) -> Ran:
        """Let it run about ``seconds``, and ``least`` queries."""
        known = self._median_ms.get(batch)
        queries = max(least, int(1e3 * seconds / known) if known else _FIRST_QUERIES)
        begin = perf_counter_ns()
        median_ms, ran = self._measured(batch, queries)
        if median_ms == 0:
            raise BackendUnavailable("it prints two decimals of a ms, too few for this model")
        self._median_ms[batch] = median_ms
        # Its start and its load are in the wall time, so that is no throughput: the queries alone are taken.
        wall_ns = min(perf_counter_ns() - begin, int(median_ms * ran * 1e6))
        return Ran(np.array([], np.int64), wall_ns, ran, median_ms)

    def _measured(self, batch: int, queries: int) -> tuple[float, int]:
        """Return its median in ms and how many queries it ran."""
        raise NotImplementedError

    def usage(self) -> Usage:
        """It is a process of its own."""
        return Usage(None, None)

    def device_ms(self, batch: int) -> None:
        """It is asked for its median only."""

    def layers(self, batch: int) -> str:
        """It is asked for its median only."""
        return "a peer's layers are not asked for"

    def _shape(self, batch: int) -> tuple[int, ...]:
        return (batch, *(size or 1 for size in self._spec.input.shape[1:]))

    def _run(self, *command: str) -> str:
        """Return what the program prints on both its outputs, which goes to the log as well.

        Raises:
            BackendUnavailable: it fails.
        """
        done = subprocess.run(
            command, cwd=self._folder.name, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
        sys.stdout.write(done.stdout + done.stderr)
        sys.stdout.flush()
        if done.returncode != 0:
            last = next(filter(None, reversed((done.stderr or done.stdout).splitlines())), "nothing")
            raise BackendUnavailable(f"{Path(command[0]).name} ended with exit code {done.returncode}: {last[:200]}")
        return done.stdout + done.stderr

    def _read(self, name: str) -> Any:
        try:
            return json.loads((Path(self._folder.name) / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"expected a report in {name}, but {error}") from error


class BenchmarkApp(Tool):
    """OpenVINO's ``benchmark_app``, as its Python package brings it."""

    file = "model.onnx"

    def _measured(self, batch: int, queries: int) -> tuple[float, int]:
        shape = ",".join(map(str, self._shape(batch)))
        code = "import sys; from openvino.tools.benchmark.main import main; sys.exit(main())"
        # Hints and numbers of threads are exclusive there; one stream with our threads is what the hint comes to.
        printed = self._run(
            *(sys.executable, "-c", code, "-m", str(self._model), "-d", "CPU", "-api", "sync", "-hint", "none"),
            *("-nstreams", "1", "-nthreads", str(self._threads or 1), "-infer_precision", "f32"),
            *("-niter", str(queries), "-shape", f"[{shape}]"),  # a graph for this size alone, as ours
        )
        return benchmark_app_median(printed)


def benchmark_app_median(printed: str) -> tuple[float, int]:
    """Return the median latency in ms and the number of queries that benchmark_app printed.

    Its JSON has ms with two decimals; what it prints are microseconds where the mean is below a millisecond.

    Raises:
        BackendUnavailable: they are not in it.
    """
    found = re.search(r"Median:\s+([\d.]+) (us|ms)", printed)
    count = re.search(r"Count:\s+(\d+) iterations", printed)
    if found is None or count is None:
        raise BackendUnavailable("expected a median and a count in what benchmark_app prints, found none")
    return float(found[1]) / (1e3 if found[2] == "us" else 1), int(count[1])


class LiteRTBenchmark(Tool):
    """LiteRT's ``benchmark_litert_model``, as its Python package brings it."""

    file = "model.tflite"

    def _measured(self, batch: int, queries: int) -> tuple[float, int]:
        if batch != 1:
            raise BackendUnavailable("litert-benchmark runs the batch that the model states, 1, and no other")
        self._run(
            *(sys.executable, "-m", LITERT_BENCHMARK, f"--model={self._model}", f"--num_runs={queries}"),
            *(f"--num_threads={self._threads or 1}", "--result_json=report.json"),
        )
        found = self._read("report.json")["latency"]
        return float(found["median_ms"]), int(found["num_runs"])


class TrtExec(Tool):
    """TensorRT's ``trtexec``, with copies and without CUDA graphs, whatever its version's defaults."""

    file = "model.engine"

    def _measured(self, batch: int, queries: int) -> tuple[float, int]:
        # TensorRT 11 left copies out and graphs on; the options that bring the old ways back are new with it.
        extra = [option for option in ("--includeDataTransfers", "--noCudaGraph") if option in self._help()]
        extra += ["--versionCompatible"] if self._host_code else []  # it then may load code for the processor
        shape = "x".join(map(str, self._shape(batch)))
        self._run(
            *("trtexec", f"--loadEngine={self._model}", f"--shapes={self._spec.input.name}:{shape}", "--duration=0"),
            *(f"--device={self._device}", f"--iterations={queries}", "--exportTimes=times.json", *extra),
        )
        return trtexec_median(self._read("times.json"))

    def _help(self) -> str:
        done = subprocess.run(["trtexec", "--help"], capture_output=True, text=True, timeout=_TIMEOUT_S)
        return done.stdout + done.stderr


def trtexec_median(times: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """Return the median latency in ms and the number of queries of ``trtexec --exportTimes``.

    Raises:
        BackendUnavailable: there is none in it.
    """
    found = [float(each["latencyMs"]) for each in times if "latencyMs" in each]
    if not found:
        raise BackendUnavailable("expected latencyMs in what trtexec exported, found none")
    return median(found), len(found)
