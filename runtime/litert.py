"""LiteRT, formerly TensorFlow Lite, on the CPU: its XNNPACK kernels."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from .errors import BackendUnavailable, BundleError
from .session import CLOSED, Session, SessionOptions
from .spec import ModelSpec

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every model


class LiteRTSession(Session):
    """A ``.tflite`` file, computing in the types it states."""

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable():
            raise BackendUnavailable(reason)
        from ai_edge_litert.interpreter import Interpreter

        if model[4:8] != _IDENTIFIER:
            raise BundleError(f"litert cannot load the model: expected a .tflite file, found {len(model)} other bytes")
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=options.threads)
            (image,), (logits,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"litert cannot load the model: {' '.join(str(error).split())}") from error
        self._image, self._logits = int(image["index"]), int(logits["index"])
        self._spec = spec
        self._batch = 0  # images for which memory is there

    @classmethod
    def unavailable(cls, device: int = 0) -> str | None:
        """Return why this backend cannot work here, or ``None``."""
        if find_spec("ai_edge_litert") is None:
            return "backend litert needs the package ai-edge-litert: pip install 'quillrt[litert]'"
        from ai_edge_litert import interpreter  # noqa: F401 - it may be there and broken, which raises ImportError

        return None

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._interpreter is None:
            raise BackendUnavailable(CLOSED)
        self._spec.input.check(batch)
        try:
            if len(batch) != self._batch:
                self._batch = 0
                self._interpreter.resize_tensor_input(self._image, list(batch.shape))
                self._interpreter.allocate_tensors()
                self._batch = len(batch)
            self._interpreter.set_tensor(self._image, batch)
            self._interpreter.invoke()
            return np.asarray(self._interpreter.get_tensor(self._logits), np.float32)
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"litert cannot run the model: {' '.join(str(error).split())}") from error

    def close(self) -> None:
        self._interpreter = None
