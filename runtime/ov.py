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

# Sizes of batches that have a graph of their own, the first ones that come: each holds the weights once more.
_OWN_GRAPHS = 3


@dataclass(frozen=True)
class _Lane:
    """A compiled graph, and the memory that it reads and writes: a fifth more time where queries bring others.

    Attributes:
        compiled: OpenVINO's model.
        request: what runs it.
        images: float32 (N, C, H, W).
        logits: float32 (N, K).
    """

    compiled: Any
    request: Any
    images: NDArray[np.float32]
    logits: NDArray[np.float32]


class OpenVINOSession(Session):
    """An ONNX graph on OpenVINO's CPU device, computing in the precision that the graph states.

    A graph for one size of batch takes up to 30 % less time than one for all, which looks at the shapes of each node
    in each query. So the first sizes have one each; after these, one graph serves all others.
    """

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable():
            raise BackendUnavailable(reason)
        import openvino

        # Left alone, OpenVINO computes FP32 graphs in bf16 where the CPU can: precision lives in the graph here.
        self._settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if options.threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = options.threads
        self._core, self._spec = openvino.Core(), spec
        self._lanes: dict[int, _Lane] = {}
        self._shared: Any = None  # the compiled graph for all other sizes
        try:
            self._model = self._core.read_model(model)
            self._lane: _Lane | None = self._own(
                spec.input.shape[0] or 1
            )  # an edge device asks for one image at a time
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
        lane = self._lane
        if lane is None:
            raise BackendUnavailable(CLOSED)
        if batch.shape == lane.images.shape and batch.dtype == lane.images.dtype:
            self._spec.input.check_finite(batch)
        else:
            self._spec.input.check(batch)
        try:
            if batch.shape != lane.images.shape:
                lane = self._lane = self._lane_for(len(batch))
            np.copyto(lane.images, batch)
            lane.request.infer(share_outputs=True)
            return lane.logits.copy()
        except RuntimeError as error:
            raise BundleError(f"openvino cannot run the model: {' '.join(str(error).split())}") from error

    def _lane_for(self, size: int) -> _Lane:
        if size in self._lanes:
            return self._lanes[size]
        if len(self._lanes) < _OWN_GRAPHS:
            return self._own(size)
        if self._shared is None:
            self._shared = self._compile(self._model)
        return self._bound(self._shared, size)

    def _own(self, size: int) -> _Lane:
        """Compile the graph for batches of ``size`` images alone, and keep it."""
        model = self._model
        if model.is_dynamic():  # a graph for one size refuses others
            model = model.clone()
            model.reshape([size, *self._spec.input.shape[1:]])
        lane = self._lanes[size] = self._bound(self._compile(model), size)
        return lane

    def _compile(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._settings)

    def _bound(self, compiled: Any, size: int) -> _Lane:
        import openvino

        spec, request = self._spec, compiled.create_infer_request()
        images = np.empty((size, *spec.input.shape[1:]), np.float32)  # type: ignore[arg-type]  # the batch alone varies
        logits = np.empty((size, len(spec.labels)), np.float32)
        for name, values in ((spec.input.name, images), (spec.output.name, logits)):
            request.set_tensor(name, openvino.Tensor(values, shared_memory=True))
        return _Lane(compiled, request, images, logits)

    def runtime_model(self) -> Any:
        """Return OpenVINO's graph of the kernels it runs, each with its facts in ``get_rt_info()``."""
        if self._lane is None:
            raise BackendUnavailable(CLOSED)
        return self._lane.compiled.get_runtime_model()

    def close(self) -> None:
        self._lane = self._model = self._shared = None
        self._lanes.clear()
