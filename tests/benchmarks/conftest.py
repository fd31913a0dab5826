from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from simulated import Clock, Near, Planted, Session
from typer.testing import CliRunner

from quillrt.benchmarks.comparing import judged
from quillrt.benchmarks.contestants import Contestant
from quillrt.benchmarks.running import Settings, measure
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision


@pytest.fixture(autouse=True)
def small_cache(monkeypatch):
    """The rotation need not be larger than this machine's cache."""
    monkeypatch.setattr("quillrt.benchmarks.rotation.last_cache_bytes", lambda: None)


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(20, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def script():
    """Run a script: ``script(main, "--option", ...)``. The thread count that it sets does not outlast the test."""

    def run(main, *arguments):
        app = typer.Typer()
        app.command()(main)
        return CliRunner().invoke(app, [str(each) for each in arguments])

    before = torch.get_num_threads()
    yield run
    torch.set_num_threads(before)


@pytest.fixture
def contestant(quadrants):
    return Contestant("onnxruntime-cpu", "fp32", quadrants.spec, quadrants.onnx)


@pytest.fixture
def bundle(quadrants):
    files = [
        entry_for(b"int8", "int8.onnx", "onnx", precision=Precision.INT8, backends=("onnxruntime-cpu",)),
        entry_for(b"fp32", "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu", "openvino")),
        entry_for(b"{}", "report.json", "report"),
    ]
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
    return Bundle(Path("m.quill"), manifest, {entry.path: data for entry, data in files}, "")


@pytest.fixture
def clock(monkeypatch):
    """Time of a simulated machine, and all workers in this process."""
    clock = Clock()
    monkeypatch.setattr("quillrt.benchmarks.running.Remote", Near)
    monkeypatch.setattr("quillrt.benchmarks.worker.perf_counter_ns", clock)
    monkeypatch.setattr("quillrt.benchmarks.arrivals._SPIN_NS", 1000)
    monkeypatch.setattr("quillrt.benchmarks.worker.time", SimpleNamespace(sleep=clock.sleep))
    return clock


@pytest.fixture
def planted(clock, quadrants):
    """Make a contestant: ``planted("eager", takes)``, its times as ``simulated.Session`` has them, or one number."""

    def planted(backend, takes, **session):
        cost = takes if callable(takes) else lambda n, batch: takes
        return Planted(backend, "fp32", quadrants.spec, b"model", session=lambda: Session(clock, cost, **session))

    return planted


@pytest.fixture
def race(images, tmp_path):
    """Measure and judge: rows by name, and the winner, of one batch size."""

    def race(*contestants, labels=None, **settings):
        settings = Settings(**{"batches": (1,), "seconds": 0.5, **settings})
        rows, _, winners = judged(measure(contestants, images, settings, tmp_path / "log.txt", labels=labels))
        return {row.name: row for row in rows}, winners[0]

    return race
