"""Every backend by name; its library loads only when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from .errors import BackendUnavailable, ConfigError
from .ort_options import check_options
from .session import Session, SessionOptions
from .spec import ModelSpec
from .termination import signals_held

# Name -> class, the likely fastest first: the order in which `run` tries them.
BACKENDS = {
    "tensorrt": "quillrt.runtime.trt:TensorRTSession",
    "tensorrt-rtx": "quillrt.runtime.trt:TensorRTRTXSession",
    "onnxruntime-tensorrt": "quillrt.runtime.ort_gpu:OrtTensorRTSession",
    "onnxruntime-cuda": "quillrt.runtime.ort_gpu:CudaSession",
    "litert": "quillrt.runtime.litert:LiteRTSession",
    "onnxruntime-cpu": "quillrt.runtime.ort:CpuSession",
    "openvino": "quillrt.runtime.ov:OpenVINOSession",
    "pytorch": "quillrt.runtime.pt2:ExportedSession",
    "pytorch-aot": "quillrt.runtime.pt2:CompiledSession",
}
ONNX_ON_CPU = ("onnxruntime-cpu", "openvino")  # they open ONNX graphs
CPU_BACKENDS = (*ONNX_ON_CPU, "litert")  # no GPU is asked for them
CUDA_GRAPHS = ("tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt", "onnxruntime-cuda")
TF32 = ("onnxruntime-cuda",)  # an option of the session rounds its FP32 products to TF32
# What they open is code of whoever made the bundle: they run when asked for by name, never because a bundle has a file.
BY_NAME = ("pytorch", "pytorch-aot")


class _Backend(Protocol):
    def __call__(self, model: bytes, spec: ModelSpec, options: SessionOptions) -> Session: ...

    def unavailable(self, device: int = 0) -> str | None: ...


def check_name(name: str) -> None:
    """Raise unless a backend has this name.

    Raises:
        ConfigError: none has; the message lists those there are.
    """
    if name not in BACKENDS:
        raise ConfigError(
            f"expected a backend out of {', '.join(BACKENDS)}, found {name!r}; quillrt doctor says which work here"
        )


def check_graph(name: str | None, options: SessionOptions) -> None:
    """Raise where a CUDA graph is asked for, but of no backend that makes one.

    Raises:
        ConfigError: ``name`` has no CUDA graphs, or none is named.
    """
    if options.cuda_graph and name not in CUDA_GRAPHS:
        raise ConfigError(
            f"expected one of {', '.join(CUDA_GRAPHS)} for CUDA graphs, found {name or 'no backend named'}; "
            "name one with --backend, or leave --cuda-graph out"
        )


def _backend(name: str) -> _Backend:
    check_name(name)
    module, cls = BACKENDS[name].split(":")
    backend: _Backend = getattr(import_module(module), cls)
    return backend


def why_unavailable(name: str, device: int = 0) -> str | None:
    """Return in one line why the backend cannot work here and what to install; ``None`` if it can.

    Args:
        name: of the backend.
        device: index of the GPU that one which works on GPUs should use.

    Raises:
        ConfigError: no backend has this name.
    """
    try:
        with signals_held():  # it imports the library
            return _backend(name).unavailable(device)
    except ImportError as error:
        return _broken(name, error)


def open_session(name: str, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> Session:
    """Open ``model``, an ONNX graph or an engine as the backend wants it.

    Raises:
        ConfigError: no backend has this name, or it has no such provider option.
        BackendUnavailable: it cannot work on this machine.
        BundleError: it refuses the model.
    """
    check_name(name)
    check_options(name, options.provider_options)
    check_graph(name, options)
    if reason := why_unavailable(name, options.device):
        raise BackendUnavailable(reason)
    try:
        return _backend(name)(model, spec, options)
    except ImportError as error:
        raise BackendUnavailable(_broken(name, error)) from error


def why_unasked(name: str) -> str:
    """Say why a backend out of ``BY_NAME`` does not run by itself."""
    return f"backend {name} runs code out of the bundle: where you trust its maker, ask for it with --backend {name}"


def _broken(name: str, error: ImportError) -> str:
    """Say that a package is there, but of no use, such as one made for another numpy or CUDA."""
    return f"backend {name} cannot be loaded: {' '.join(str(error).split())}; install its package again"
