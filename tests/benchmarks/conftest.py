import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from quillrt.benchmarks.contestants import Contestant


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
