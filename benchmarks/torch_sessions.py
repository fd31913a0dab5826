"""PyTorch as a backend, eager and compiled: the side that every engine is measured against."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import BackendUnavailable, ConfigError
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from quillrt.train.checkpoint import Checkpoint


class EagerSession(Session):
    """The network as it was trained, in eager mode; on ``cuda`` both copies are part of ``run``.

    FP32 means FP32: TF32, cuDNN's default for convolutions, is off.
    """

    def __init__(self, checkpoint: Checkpoint, options: SessionOptions = SessionOptions(), device: str = "cpu") -> None:
        import torch

        if device == "cuda":
            if not torch.cuda.is_available():
                raise BackendUnavailable(f"torch {torch.__version__} finds no NVIDIA GPU; run quillrt doctor")
            forbid_tf32(torch.backends)
        self._threads_before = torch.get_num_threads()  # torch has one count for the whole process
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._device = torch.device(device, options.device if device == "cuda" else 0)
        self._network: Any = checkpoint.module().to(self._device)
        self._spec = checkpoint.spec

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        self._spec.input.check(batch)
        with torch.inference_mode():
            logits: NDArray[np.float32] = self._network(torch.from_numpy(batch).to(self._device)).cpu().numpy()
        return logits

    def close(self) -> None:
        import torch

        torch.set_num_threads(self._threads_before)
        self._network = None


def forbid_tf32(backends: Any) -> None:
    """Make FP32 mean FP32 in ``torch.backends``."""
    if hasattr(backends.cudnn, "conv"):  # torch 2.9 on; it warns of the older names, which JetPack's torch has alone
        backends.cudnn.conv.fp32_precision = "ieee"
        backends.cuda.matmul.fp32_precision = "ieee"
    else:
        backends.cudnn.allow_tf32 = False
        backends.cuda.matmul.allow_tf32 = False


class CompileSession(EagerSession):
    """The network under torch.compile, default mode; each batch size is compiled for itself at its first query."""

    def __init__(self, checkpoint: Checkpoint, options: SessionOptions = SessionOptions(), device: str = "cpu") -> None:
        import torch

        from quillrt.train.devices import check_compiler

        super().__init__(checkpoint, options, device)
        check_compiler(device)
        # Left alone, torch compiles the second batch size it meets for any size, and that graph is slower.
        self._network = torch.compile(self._network, dynamic=False)

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


def open_torch_session(name: str, checkpoint: Path, options: SessionOptions = SessionOptions()) -> Session:
    """Open a checkpoint with one of ``TORCH_BACKENDS``.

    Raises:
        ConfigError: no such backend.
        BackendUnavailable: PyTorch, a GPU or a compiler is missing.
        CheckpointError: the checkpoint cannot be read.
    """
    if name not in TORCH_BACKENDS:
        raise ConfigError(f"expected a backend out of {', '.join(TORCH_BACKENDS)}, found {name!r}")
    if find_spec("torch") is None:
        raise BackendUnavailable(f"backend {name} needs the package torch: pip install 'quillrt[train]'")
    from quillrt.train.checkpoint import load_checkpoint

    session, device = TORCH_BACKENDS[name]
    return session(load_checkpoint(checkpoint), options, device)
