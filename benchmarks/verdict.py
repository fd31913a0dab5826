"""Is the choice of `compile --precision auto` right? `python -m quillrt.benchmarks.verdict MODEL... --target ...`.

Each model is compiled once in all precisions, and every file that a CPU library opens is timed by a bare loop around
that library, without any code of ours: a process for each, in turns. Then `auto` chooses, in bundles of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from quillrt.benchmarks.environment import describe, hardware_line
from quillrt.benchmarks.script import run
from quillrt.compile.config import DEFAULT_PRECISIONS, CompileConfig
from quillrt.compile.latency import paired
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.ranges import Images
from quillrt.compile.source import Source, load_source
from quillrt.runtime.backends import CPU_BACKENDS
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.preprocessing import fit_images, normalize
from quillrt.runtime.versions import versions
from quillrt.train.datasets import load_dataset_for, public_name

_PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert")
_ROUNDS = 60  # many short ones: what slows the machine down for a second meets all loops of a round
_WARM_UP = 20
Query = Callable[[], Any]


def _onnxruntime(model: bytes, batch: NDArray[np.float32]) -> Query:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: batch})


def _openvino(model: bytes, batch: NDArray[np.float32]) -> Query:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    graph = core.read_model(model)
    graph.reshape(list(batch.shape))  # a graph for one size of batch is faster than one for any
    compiled = core.compile_model(graph, "CPU", settings)
    request, classes = compiled.create_infer_request(), compiled.output(0).partial_shape[1].get_length()
    image, logits = np.empty_like(batch), np.empty((len(batch), classes), np.float32)
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(logits, shared_memory=True))

    def query() -> Any:
        np.copyto(image, batch)
        request.infer(share_outputs=True)
        return [logits.copy()]

    return query


def _litert(model: bytes, batch: NDArray[np.float32]) -> Query:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    image, logits = (
        int(found()[0]["index"]) for found in (interpreter.get_input_details, interpreter.get_output_details)
    )
    interpreter.resize_tensor_input(image, batch.shape)
    interpreter.allocate_tensors()

    def query() -> Any:
        interpreter.set_tensor(image, batch)
        interpreter.invoke()
        return [interpreter.get_tensor(logits)]

    return query


LOOPS: dict[str, Callable[[bytes, NDArray[np.float32]], Query]] = {
    "onnxruntime-cpu": _onnxruntime,
    "openvino": _openvino,
    "litert": _litert,
}
_query: Query


def _open(backend: str, model: bytes, batch: NDArray[np.float32]) -> None:
    """Load the model in a worker of its own; all workers share a core, as cores of one machine differ in speed."""
    global _query
    if sys.platform == "linux":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _query = LOOPS[backend](model, batch)
    for _ in range(_WARM_UP):
        _query()


def _round(seconds: float) -> float:
    """Return the median time of a query in microseconds."""
    times: list[int] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter_ns()
        _query()
        times.append(time.perf_counter_ns() - started)
    return median(times) / 1000


@dataclass(frozen=True)
class Raced:
    """What one run found.

    Attributes:
        picked: file and backend that ``auto`` chose.
        latency_us: typical times of the loops by file and backend, the fastest first.
    """

    picked: tuple[str, str]
    latency_us: dict[tuple[str, str], float]

    @property
    def excess(self) -> float:
        """By what share of the fastest's time the picked one is slower."""
        return self.latency_us[self.picked] / min(self.latency_us.values()) - 1


def loops(bundle: Bundle, batch: NDArray[np.float32], seconds: float) -> dict[tuple[str, str], float]:
    """Time every file of ``bundle`` on every CPU library that opens it; return microseconds, the fastest first.

    Args:
        bundle: what to time.
        batch: the query, float32 (N, C, H, W).
        seconds: of each of the rounds.
    """
    pairs = [(entry, backend) for entry in bundle.entries for backend in entry.backends if backend in LOOPS]
    with ExitStack() as stack:
        workers = {}
        for entry, backend in pairs:
            start = (backend, bundle.read(entry), batch)
            pool = ProcessPoolExecutor(1, get_context("spawn"), _open, start)
            workers[entry.path, backend] = stack.enter_context(pool)
        rounds = [{key: pool.submit(_round, seconds).result() for key, pool in workers.items()} for _ in range(_ROUNDS)]
    return dict(sorted(paired(rounds).items(), key=lambda item: item[1]))


def race(source: Source, images: Images, config: CompileConfig, folder: Path, seconds: float) -> Raced:
    """Let ``auto`` choose for ``config.batch``, and time all there is to choose from for ``seconds`` a round."""
    everything = compile_bundle(source, images, config, folder / "all.quill").bundle
    choice = compile_bundle(source, images, replace(config, auto=True), folder / "auto.quill").choice
    assert choice is not None  # noqa: S101 - auto always chooses or raises
    spec = source.spec
    rows = np.arange(config.batch) % len(images.validation)
    fitted = fit_images(images.validation.take(rows), spec.preprocessing)
    found = loops(everything, normalize(fitted, spec.preprocessing, spec.channels), seconds)
    return Raced((choice.chosen.path, choice.chosen.backend), found)


def main(
    models: Annotated[list[Path], typer.Argument(help="Checkpoints that quillrt trained.")],
    data_root: Annotated[Path | None, typer.Option("--data-root", envvar="QUILLRT_DATA")] = None,
    target: Annotated[list[str], typer.Option("--target", help="CPU targets to choose from; repeat.")] = [  # noqa: B006
        *CPU_BACKENDS
    ],
    batch: Annotated[list[int], typer.Option("--batch", min=1, help="Repeat for several.")] = [1, 64],  # noqa: B006
    runs: Annotated[int, typer.Option("--runs", min=1)] = 3,
    seconds: Annotated[float, typer.Option("--seconds", min=0.001, help="Of each round.")] = 0.05,
) -> None:
    """Print for each model and batch what was picked, what each loop takes, and by how much the pick is off."""
    libraries = ", ".join(f"{name} {version}" for name, version in versions(*_PACKAGES).items())
    typer.echo(f"one thread, paired medians of {_ROUNDS} rounds in turn; {hardware_line(describe())}, {libraries}")
    for path in models:
        source = load_source(path)
        training = source.checkpoint.training if source.checkpoint else {}
        name, splits = load_dataset_for(source.spec, training, None, data_root)
        images = Images(public_name(name), splits.train, splits.validation)
        for size in batch:
            config = CompileConfig(DEFAULT_PRECISIONS, tuple(target), batch=size)
            for number in range(1, runs + 1):
                with TemporaryDirectory() as folder:
                    found = race(source, images, config, Path(folder), seconds)
                times = ", ".join(f"{_said(pair)} {us:,.0f}" for pair, us in found.latency_us.items())
                typer.echo(
                    f"{path.name}, batch {size}, run {number}: picked {_said(found.picked)}, "
                    f"{found.excess:.1%} over the fastest; µs a query: {times}"
                )


def _said(pair: tuple[str, str]) -> str:
    return f"{pair[0].removeprefix('model.')} on {pair[1]}"


if __name__ == "__main__":
    run(main)
