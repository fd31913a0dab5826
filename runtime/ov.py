"""OpenVINO on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendUnavailable, BundleError
from .session import CLOSED, Session, SessionOptions
from .spec import ModelSpec


@dataclass(frozen=True)
class _Lane:
    """A request of a compiled graph, and the memory that it reads and writes.

    OpenVINO takes a fifth longer where each query brings memory of its own.

    Attributes:
        request: OpenVINO's.
        images: float32 (N, C, H, W).
        logits: float32 (N, K).
    """

    request: Any
    images: NDArray[np.float32]
    logits: NDArray[np.float32]


class OpenVINOSession(Session):
    """An ONNX graph on OpenVINO's CPU device, computing in the precision that the graph states.

    In a graph for any size of batch, each node looks at its shapes in each query. The sizes that ``options`` name have
    one of their own, made at their first query, that of the first of them when the session opens.
    """

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable():
            raise BackendUnavailable(reason)
        import openvino

        # Left alone, OpenVINO computes FP32 graphs in bf16 where the CPU can: precision lives in the graph here.
        settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        self._core, self._settings, self._spec = openvino.Core(), settings, spec
        self._own: dict[int, _Lane] = {}  # by their size of batch
        self._request: Any = None  # of the graph for any size, and what it is bound to
        self._shared: _Lane | None = None
        try:
            self._model = self._core.read_model(model)
            self._sizes = options.batch_sizes if self._model.is_dynamic() else ()
            if self._sizes:
                self._make_own(self._sizes[0])
            else:
                self._request = self._compiled(self._model)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load the model: {' '.join(str(error).split())}") from error

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
        if self._core is None:
            raise BackendUnavailable(CLOSED)
        self._spec.input.check(batch)
        try:
            lane = self._own.get(len(batch)) or self._lane_for(batch.shape)
            np.copyto(lane.images, batch)
            lane.request.infer(share_outputs=True)
            return lane.logits.copy()
        except RuntimeError as error:
            raise BundleError(f"openvino cannot run the model: {' '.join(str(error).split())}") from error

    def _lane_for(self, shape: tuple[int, ...]) -> _Lane:
        if shape[0] in self._sizes:
            return self._make_own(shape[0])
        if self._request is None:
            self._request = self._compiled(self._model)
        if self._shared is None or self._shared.images.shape != shape:
            self._shared = None  # binding may fail halfway
            self._shared = self._bound(self._request, shape)
        return self._shared

    def _make_own(self, size: int) -> _Lane:
        model, shape = self._model.clone(), tuple(known or size for known in self._spec.input.shape)
        model.reshape(shape)
        lane = self._own[size] = self._bound(self._compiled(model), shape)
        return lane

    def _compiled(self, model: Any) -> Any:
        """Return a request of the graph, which keeps it alive."""
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()

    def _bound(self, request: Any, shape: tuple[int, ...]) -> _Lane:
        import openvino

        images, logits = np.empty(shape, np.float32), np.empty((shape[0], len(self._spec.labels)), np.float32)
        for name, values in ((self._spec.input.name, images), (self._spec.output.name, logits)):
            request.set_tensor(name, openvino.Tensor(values, shared_memory=True))
        return _Lane(request, images, logits)

    def runtime_model(self) -> Any:
        """Return OpenVINO's graph of the kernels it runs, each with its facts in ``get_rt_info()``.

        It is that for the first size that the session was opened for, or for any size.
        """
        request = self._own[self._sizes[0]].request if self._sizes else self._request
        return request.get_compiled_model().get_runtime_model()

    def close(self) -> None:
        self._core = self._model = self._request = self._shared = None
        self._own.clear()
