"""What onnxruntime does besides: it falls back to other providers and prints, which must not happen here."""

import numpy as np
import pytest

from quillrt.runtime.errors import BackendUnavailable, BundleError
from quillrt.runtime.ort import CpuSession

onnxruntime = pytest.importorskip("onnxruntime")
BATCH = np.ones((1, 1, 8, 8), np.float32)


def test_a_provider_that_does_not_start_is_an_error_without_another_try(monkeypatch, quadrants, capfd):
    tries = []

    def fails(self, *arguments):
        tries.append(arguments)
        raise RuntimeError("CUDA failure 35:\ndriver too old")

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fails)

    with pytest.raises(BackendUnavailable, match=r"could not start CPUExec.*: CUDA failure 35: driver too old$"):
        CpuSession(quadrants.onnx, quadrants.spec)
    assert len(tries) == 1
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("CUDA failure 700: an illegal memory access ; GPU=0 ;\nexpr=cudaStreamSynchronize", BackendUnavailable),
        ("Non-zero status code while running Conv. CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR", BackendUnavailable),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer", BackendUnavailable),
        ("TensorRT EP execution context enqueue failed.", BackendUnavailable),
        ("Non-zero status code while running Reshape. The input cannot be reshaped", BundleError),
    ],
)
def test_a_provider_that_fails_in_a_query_is_an_error_and_stays(monkeypatch, quadrants, capfd, words, error):
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    class Failing:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def run(self, *arguments):
            raise EPFail(words)

    with CpuSession(quadrants.onnx, quadrants.spec) as session:
        monkeypatch.setattr(session._session, "_sess", Failing(session._session._sess))
        with pytest.raises(error) as caught:
            session.run(BATCH)
    assert str(caught.value) == f"onnxruntime-cpu cannot run the model: {' '.join(words.split())}"
    assert capfd.readouterr().out == ""
