"""ONNX Runtime on the CPU, and what its sessions on other providers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .errors import BackendUnavailable, BundleError
from .session import CLOSED, Session, SessionOptions
from .spec import ModelSpec
from .trt_layers import LayerTime

_UNSAFE = [
    "MatmulTransposeFusion"
]  # onnxruntime 1.32 crashes with it, the whole process, on a vision transformer in FP16
# How its errors read that are the device's and not the model's (cuda_call.cc, bfc_arena.cc, TensorRT's provider).
_OF_THE_DEVICE = re.compile(
    r"\b(CUDA|CUDNN|CUBLAS|CUFFT|CURAND) failure \d|Failed to allocate memory|execution context enqueue failed", re.I
)
_FATAL = 4  # onnxruntime's severities: its errors come as exceptions, and need not stand on stderr as well


def load() -> Any:
    """Return onnxruntime's module.

    Raises:
        ImportError: its package is missing, or there and broken.
    """
    import onnxruntime

    return onnxruntime


class OrtSession(Session):
    """An ONNX graph on one of onnxruntime's providers, which a subclass names."""

    name: ClassVar[str]
    provider: ClassVar[str]
    needs: ClassVar[str]

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable(options.device):
            raise BackendUnavailable(reason)
        self._spec = spec
        self._session = self._open(model, options)

    @classmethod
    def unavailable(cls, device: int = 0) -> str | None:
        """Return why this backend cannot work here, or ``None``."""
        if find_spec("onnxruntime") is None:
            return f"backend {cls.name} needs the package onnxruntime: pip install 'quillrt[ort]'"
        load()  # it may be there and broken, which raises ImportError
        return None

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._session is None:
            raise BackendUnavailable(CLOSED)
        self._spec.input.check(batch)
        try:
            return self._query(batch)
        except Exception as error:  # onnxruntime's have no common base but this
            kind = BackendUnavailable if _OF_THE_DEVICE.search(str(error)) else BundleError
            raise kind(f"{self.name} cannot run the model: {' '.join(str(error).split())}") from error

    def close(self) -> None:
        self._session = None

    def _open(self, model: bytes, options: SessionOptions) -> Any:
        return self._start(model, self._settings(options), {})

    def _settings(self, options: SessionOptions) -> Any:
        """Return onnxruntime's options of a session, whatever the provider."""
        settings = load().SessionOptions()
        settings.log_severity_level = _FATAL
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        return settings

    def _start(self, model: bytes, settings: Any, provider_options: Mapping[str, Any]) -> Any:
        """Return onnxruntime's session on ``self.provider``.

        Raises:
            BackendUnavailable: the provider does not start.
            BundleError: onnxruntime refuses the model.
        """
        try:
            session = load().InferenceSession(
                model,
                settings,
                providers=[(self.provider, dict(provider_options))],
                enable_fallback=0,
                disabled_optimizers=_UNSAFE,
            )
        except RuntimeError as error:  # the provider's; what onnxruntime says of models is none
            raise BackendUnavailable(f"{self._cannot_start()}: {' '.join(str(error).split())}") from error
        except Exception as error:
            raise BundleError(f"{self.name} cannot load the model: {' '.join(str(error).split())}") from error
        # onnxruntime falls back to the CPU with a warning when a provider fails; here that is an error.
        if session.get_providers()[0] != self.provider:
            raise BackendUnavailable(self._cannot_start())
        return session

    def _query(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run([self._spec.output.name], {self._spec.input.name: batch})[0]
        return logits

    def _cannot_start(self) -> str:
        return (
            f"{self.name}: onnxruntime could not start {self.provider} ({self.needs} missing?); "
            "run quillrt doctor, or choose --backend onnxruntime-cpu"
        )


class CpuSession(OrtSession):
    """An ONNX graph on onnxruntime's CPU provider."""

    name = "onnxruntime-cpu"
    provider = "CPUExecutionProvider"
    needs = "its libraries"

    def _open(self, model: bytes, options: SessionOptions) -> Any:
        self._model, self._options = model, options
        return super()._open(model, options)

    def layer_times(self, batch: NDArray[np.float32], queries: int) -> tuple[LayerTime, ...]:
        """Return what each kernel takes of a query, in the mean of ``queries``, in another session of its own.

        Raises:
            SpecError: as ``run``.
        """
        from .ort_profile import profile

        kernels = profile(self._model, self._spec, batch, queries, self._options)
        return tuple(LayerTime(**vars(kernel), ms=ms) for kernel, ms in kernels)
