"""ONNX Runtime on the CPU and on NVIDIA GPUs."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendUnavailable, BundleError
from .session import Session, SessionOptions
from .spec import ModelSpec

_UNSAFE = [
    "MatmulTransposeFusion"
]  # onnxruntime 1.32 crashes with it, the whole process, on a vision transformer in FP16
_FATAL = 4  # onnxruntime's severities: its errors come as exceptions, and need not stand on stderr as well


class CpuSession(Session):
    """An ONNX graph on onnxruntime's CPU provider."""

    name = "onnxruntime-cpu"
    provider = "CPUExecutionProvider"

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable():
            raise BackendUnavailable(reason)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _FATAL
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        try:
            self._session = onnxruntime.InferenceSession(
                model,
                settings,
                providers=[(self.provider, self.provider_options(options))],
                enable_fallback=0,
                disabled_optimizers=_UNSAFE,
            )
        except RuntimeError as error:  # the provider's; what onnxruntime says of models is none
            raise BackendUnavailable(f"{self._cannot_start()}: {' '.join(str(error).split())}") from error
        except Exception as error:
            raise BundleError(f"{self.name} cannot load the model: {' '.join(str(error).split())}") from error
        # onnxruntime falls back to the CPU with a warning when a provider fails; here that is an error.
        if self._session.get_providers()[0] != self.provider:
            raise BackendUnavailable(self._cannot_start())
        self._spec = spec

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why this backend cannot work here, or ``None``."""
        if find_spec("onnxruntime") is None:
            return f"backend {cls.name} needs the package onnxruntime: pip install 'quillrt[ort]'"
        import onnxruntime  # noqa: F401 - it may be there and broken, which raises ImportError

        return None

    @staticmethod
    def provider_options(options: SessionOptions) -> dict[str, Any]:
        """Return the execution provider's own options."""
        return {}

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self._spec.input.check(batch)
        try:
            logits: NDArray[np.float32] = self._session.run([self._spec.output.name], {self._spec.input.name: batch})[0]
        except Exception as error:  # onnxruntime's have no common base but this
            raise BundleError(f"{self.name} cannot run the model: {' '.join(str(error).split())}") from error
        return logits

    def close(self) -> None:
        self._session = None

    def _cannot_start(self) -> str:
        return (
            f"{self.name}: onnxruntime could not start {self.provider} (CUDA or cuDNN libraries missing?); "
            "run quillrt doctor, or choose --backend onnxruntime-cpu"
        )


class CudaSession(CpuSession):
    """An ONNX graph on onnxruntime's CUDA provider."""

    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why this backend cannot work here, or ``None``."""
        if find_spec("onnxruntime") is None:
            return f"backend {cls.name} needs the package onnxruntime-gpu: pip install onnxruntime-gpu"
        import onnxruntime

        if cls.provider not in onnxruntime.get_available_providers():
            return (
                f"backend {cls.name} needs onnxruntime-gpu, but the installed onnxruntime "
                f"{onnxruntime.__version__} has no CUDA: pip uninstall onnxruntime, pip install onnxruntime-gpu"
            )
        from .device import describe_device

        device = describe_device()
        return None if device.gpus else f"backend {cls.name} needs an NVIDIA GPU: {device.gpu_reason}"

    @staticmethod
    def provider_options(options: SessionOptions) -> dict[str, Any]:
        """Return the device to use."""
        import onnxruntime

        if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
            with redirect_stdout(sys.stderr):  # where it prints what it misses
                onnxruntime.preload_dlls()  # finds CUDA and cuDNN in the nvidia-* packages that pip installed
        return {"device_id": options.device, "use_tf32": 0}  # precision lives in the graph
