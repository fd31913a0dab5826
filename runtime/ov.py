"""OpenVINO on the CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendUnavailable, BundleError
from .session import CLOSED, Session, SessionOptions
from .spec import ModelSpec


class OpenVINOSession(Session):
    """An ONNX graph on OpenVINO's CPU device, computing in the precision that the graph states."""

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable():
            raise BackendUnavailable(reason)
        import openvino

        # Left alone, OpenVINO computes FP32 graphs in bf16 where the CPU can: precision lives in the graph here.
        settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        core = openvino.Core()
        try:
            self._model = core.compile_model(core.read_model(model), "CPU", settings)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load the model: {' '.join(str(error).split())}") from error
        self._request = self._model.create_infer_request()
        self._forget()
        self._spec = spec

    @classmethod
    def unavailable(cls, device: int = 0) -> str | None:
        """Return why this backend cannot work here, or ``None``."""
        if find_spec("openvino") is None:
            return "backend openvino needs the package openvino: pip install 'quillrt[openvino]'"
        import openvino  # noqa: F401 - it may be there and broken, which raises ImportError

        return None

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._request is None:
            raise BackendUnavailable(CLOSED)
        self._spec.input.check(batch)
        try:
            if batch.shape != self._images.shape:
                self._bind(batch.shape)
            np.copyto(self._images, batch)
            self._request.infer(share_outputs=True)
            return self._logits.copy()
        except RuntimeError as error:
            raise BundleError(f"openvino cannot run the model: {' '.join(str(error).split())}") from error

    def _forget(self) -> None:
        """Have memory for no batch."""
        self._images: NDArray[np.float32] = np.empty(0, np.float32)
        self._logits: NDArray[np.float32] = np.empty(0, np.float32)

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Let the model read and write memory of its own: OpenVINO takes a fifth longer where queries bring others."""
        import openvino

        self._forget()  # where the model refuses one of these
        images, logits = np.empty(shape, np.float32), np.empty((shape[0], len(self._spec.labels)), np.float32)
        for name, values in ((self._spec.input.name, images), (self._spec.output.name, logits)):
            self._request.set_tensor(name, openvino.Tensor(values, shared_memory=True))
        self._images, self._logits = images, logits

    def runtime_model(self) -> Any:
        """Return OpenVINO's graph of the kernels it runs, each with its facts in ``get_rt_info()``."""
        return self._model.get_runtime_model()

    def close(self) -> None:
        self._request = self._model = None
