"""PyTorch as a backend, eager and compiled: the side that every engine is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.device import describe_device
from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from quillrt.train.checkpoint import Checkpoint

_TRITON_SINCE = 7.0  # compute capability that torch/_dynamo/device_interface.py asks for
_BEFORE_CAPTURE = 3  # as PyTorch's example has it
# Half precisions by name of torch's type: the weights are converted, the logits are float32 again.
_HALVES = {Precision.FP16: "float16", Precision.BF16: "bfloat16"}
PRECISIONS = (Precision.FP32, Precision.TF32, *_HALVES)  # those a GPU's rows may have; a CPU's are FP32


class EagerSession(Session):
    """The network as it was trained, in eager mode; on ``cuda`` both copies are part of ``run``.

    FP32 means FP32: TF32, cuDNN's default for convolutions, is on only in the precision of that name.
    Its options: ``memory_format=channels_last`` for weights and images, and ``autocast=bfloat16``: weights stay in
    FP32, and convolutions and products compute in bfloat16.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: SessionOptions = SessionOptions(),
        device: str = "cpu",
        precision: Precision = Precision.FP32,
    ) -> None:
        import torch

        if device == "cuda":
            if not torch.cuda.is_available():
                raise BackendUnavailable(f"torch {torch.__version__} finds no NVIDIA GPU; run quillrt doctor")
            set_tf32(torch.backends, allowed=precision is Precision.TF32)
        self._threads_before = torch.get_num_threads()  # torch has one count for the whole process
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._device = torch.device(device, options.device if device == "cuda" else 0)
        self._autocast = "autocast" in options.provider_options
        self._type = getattr(torch, "float32" if self._autocast else _HALVES.get(precision, "float32"))
        channels_last = options.provider_options.get("memory_format") == "channels_last"
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        network = checkpoint.module().to(self._device, self._type)
        self._network: Any = self._prepared(network.to(memory_format=self._format), options)
        self._spec = checkpoint.spec

    def _prepared(self, network: Any, options: SessionOptions) -> Any:
        """Return what is called with images."""
        return Captured(network) if options.cuda_graph else network

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        self._spec.input.check(batch)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            images = torch.from_numpy(batch).to(self._device)
            images = images.to(self._type, memory_format=self._format)  # converted where it is to compute
            logits: NDArray[np.float32] = self._network(images).float().cpu().numpy()
        return logits

    def close(self) -> None:
        import torch

        torch.set_num_threads(self._threads_before)
        self._network = None


class Captured:
    """A network on a GPU, captured as a CUDA graph for each shape it meets.

    The steps are those of PyTorch's notes on CUDA semantics, "whole-network capture".
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._graphs: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}  # by shape: graph, its images, its logits

    def __call__(self, images: Any) -> Any:
        """Return logits that the next call with this shape overwrites."""
        shape = tuple(images.shape)
        if shape not in self._graphs:
            self._graphs[shape] = self._capture(images)
        graph, inputs, logits = self._graphs[shape]
        inputs.copy_(images)
        graph.replay()
        return logits

    def _capture(self, images: Any) -> tuple[Any, Any, Any]:
        from torch import cuda

        inputs = images.clone()
        side = cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(_BEFORE_CAPTURE):  # libraries choose and load their kernels, which no graph may record
                self._network(inputs)
        cuda.current_stream().wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            logits = self._network(inputs)
        return graph, inputs, logits


def set_tf32(backends: Any, *, allowed: bool) -> None:
    """Let FP32 products in ``torch.backends`` round their inputs to TF32, or make FP32 mean FP32."""
    if hasattr(backends.cudnn, "conv"):  # torch 2.9 on; it warns of the older names, which JetPack's torch has alone
        backends.cudnn.conv.fp32_precision = backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"
    else:
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = allowed


class CompileSession(EagerSession):
    """The network under torch.compile; each batch size is compiled for itself at its first query.

    Its option ``mode`` is torch.compile's.
    """

    def _prepared(self, network: Any, options: SessionOptions) -> Any:
        import torch

        from quillrt.train.devices import check_compiler

        check_compiler(self._device.type)
        # Left alone, torch compiles the second batch size it meets for any size, and that graph is slower.
        return torch.compile(network, dynamic=False, mode=options.provider_options.get("mode", "default"))

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        from torch._dynamo.exc import BackendCompilerFailed

        try:
            return super().run(batch)
        except BackendCompilerFailed as error:
            what = " ".join(str(error).split())[:200]
            raise BackendUnavailable(f"torch.compile could not compile the network: {what}") from error


TORCH_BACKENDS = {
    "eager": (EagerSession, "cpu"),
    "torch-compile": (CompileSession, "cpu"),
    "eager-cuda": (EagerSession, "cuda"),
    "torch-compile-cuda": (CompileSession, "cuda"),
}
CUDA_GRAPHS = ("eager-cuda",)  # torch.compile makes its own in the mode reduce-overhead
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_EAGER = {"memory_format": ("contiguous", "channels_last"), "autocast": ("bfloat16",)}
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    name: {**_EAGER, "mode": _MODES} if session is CompileSession else _EAGER
    for name, (session, _) in TORCH_BACKENDS.items()
}


def fits(precision: str | None, options: Mapping[str, str]) -> bool:
    """Tell whether a row of this precision may have ``options`` besides: autocast begins with FP32 weights."""
    return "autocast" not in options or precision == Precision.FP32


def computed_in(precision: str | None, options: Mapping[str, str]) -> str | None:
    """Return the precision that a row of ``precision`` computes in with ``options`` besides."""
    return Precision.BF16.value if "autocast" in options else precision


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raise unless the backend ``name`` takes every one of ``options``.

    Raises:
        ConfigError: it has none of that name, or not with that value.
    """
    for key, value in options.items():
        values = OPTIONS.get(name, {}).get(key, ())
        if value not in values:
            said = f"one of {', '.join(values)}" if values else "left out"
            raise ConfigError(f"expected {key} of {name} to be {said}, found {value!r}")


def why_unavailable(name: str) -> str | None:
    """Return in one line why one of ``TORCH_BACKENDS`` cannot work here, or ``None``; this does not load PyTorch."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return f"backend {name} needs the package torch: pip install 'quillrt[train]'"
    if TORCH_BACKENDS[name][1] != "cuda":
        return None
    device = describe_device()
    if not device.gpus:
        return f"backend {name} needs an NVIDIA GPU: {device.gpu_reason}"
    if run_path(str(Path(found.origin).with_name("version.py"))).get("cuda") is None:
        return f"backend {name} needs a torch with CUDA, which the installed one is built without"
    if name == "torch-compile-cuda":
        if find_spec("triton") is None:
            return f"backend {name} needs the package triton: pip install triton"
        if float(device.gpus[0].compute_capability) < _TRITON_SINCE:
            return (
                f"backend {name} needs compute capability {_TRITON_SINCE}, this is {device.gpus[0].compute_capability}"
            )
    return None


def open_torch_session(
    name: str,
    checkpoint: Path,
    options: SessionOptions = SessionOptions(),
    precision: Precision = Precision.FP32,
) -> Session:
    """Open a checkpoint with one of ``TORCH_BACKENDS``, to compute in one of ``PRECISIONS``.

    Raises:
        ConfigError: no such backend, or no such option of it.
        BackendUnavailable: PyTorch, a GPU or a compiler is missing.
        CheckpointError: the checkpoint cannot be read.
    """
    if name not in TORCH_BACKENDS:
        raise ConfigError(f"expected a backend out of {', '.join(TORCH_BACKENDS)}, found {name!r}")
    check_options(name, options.provider_options)
    if reason := why_unavailable(name):
        raise BackendUnavailable(reason)
    from quillrt.train.checkpoint import load_checkpoint

    session, device = TORCH_BACKENDS[name]
    return session(load_checkpoint(checkpoint), options, device, precision)
