import numpy as np
import pytest

from quillrt.benchmarks.contestants import Contestant


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(20, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def contestant(quadrants):
    return Contestant("onnxruntime-cpu", "fp32", quadrants.spec, quadrants.onnx)
