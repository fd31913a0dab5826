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

_OWN_GRAPHS = 2  # sizes of batches that have one; each holds weights and activations once more


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

    In a graph for any size of batch, each node looks at its shapes in each query. At its second query a size gets a
    graph of its own, the first two sizes that come to that.
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
        try:
            self._model = self._core.read_model(model)
            self._any_size = self._compile(self._model)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot load the model: {' '.join(str(error).split())}") from error
        self._request = self._any_size.create_infer_request()
        self._own: dict[int, _Lane] = {}
        self._asked: set[int] = set()
        self._lane: _Lane | None = None  # of the last query, where the next of its size needs no other

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
            lane = self._lane
            if lane is None or batch.shape != lane.images.shape:
                lane = self._lane_for(batch.shape)
            np.copyto(lane.images, batch)
            lane.request.infer(share_outputs=True)
            return lane.logits.copy()
        except RuntimeError as error:
            raise BundleError(f"openvino cannot run the model: {' '.join(str(error).split())}") from error

    def _lane_for(self, shape: tuple[int, ...]) -> _Lane:
        size = shape[0]
        if size in self._own:
            self._lane = self._own[size]
            return self._lane
        self._lane = None  # binding may fail halfway
        more = len(self._own) < _OWN_GRAPHS and self._model.is_dynamic()
        if more and size in self._asked:
            model = self._model.clone()
            model.reshape(shape)
            self._lane = self._own[size] = self._bound(self._compile(model).create_infer_request(), shape)
            return self._lane
        self._asked.add(size)
        lane = self._bound(self._request, shape)
        if not more:
            self._lane = lane
        return lane

    def _compile(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._settings)

    def _bound(self, request: Any, shape: tuple[int, ...]) -> _Lane:
        import openvino

        images, logits = np.empty(shape, np.float32), np.empty((shape[0], len(self._spec.labels)), np.float32)
        for name, values in ((self._spec.input.name, images), (self._spec.output.name, logits)):
            request.set_tensor(name, openvino.Tensor(values, shared_memory=True))
        return _Lane(request, images, logits)

    def runtime_model(self) -> Any:
        """Return OpenVINO's graph of the kernels it runs for any size, each with its facts in ``get_rt_info()``."""
        return self._any_size.get_runtime_model()

    def close(self) -> None:
        self._core = self._model = self._any_size = self._request = self._lane = None
        self._own.clear()
