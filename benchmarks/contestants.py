"""Who takes part in a benchmark: a model, the backend that runs it, or the reason why it cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from quillrt.runtime.backends import BACKENDS, BY_NAME, open_session, why_unasked, why_unavailable
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError
from quillrt.runtime.precision import Precision
from quillrt.runtime.select import candidates, why_not
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec

from .torch_sessions import TORCH_BACKENDS, open_torch_session


@dataclass(frozen=True)
class Contestant:
    """One model on one backend.

    Attributes:
        backend: one of ``NAMES``.
        precision: number format the model computes in; ``None`` where there is no model.
        spec: what goes in and comes out.
        model: an ONNX graph or an engine; for PyTorch the checkpoint's path.
        reason: why it cannot run, where that is known before it is tried.
    """

    backend: str
    precision: str | None
    spec: ModelSpec
    model: bytes | Path = b""
    reason: str | None = None

    @property
    def name(self) -> str:
        """Backend and precision, as rows are called."""
        return self.backend if self.precision is None else f"{self.backend} {self.precision}"

    def open(self, options: SessionOptions) -> Session:
        """Load the model.

        Raises:
            QuillError: it cannot run here.
        """
        if self.reason is not None:
            raise BackendUnavailable(self.reason)
        if isinstance(self.model, Path):
            return open_torch_session(self.backend, self.model, options)
        return open_session(self.backend, self.model, self.spec, options)


NAMES = (*TORCH_BACKENDS, *BACKENDS)


def torch_contestants(spec: ModelSpec, checkpoint: Path | None) -> list[Contestant]:
    """Return PyTorch's rows: the network as it was trained.

    Raises:
        CheckpointError: there is no such file.
    """
    if checkpoint is None:
        reason = "no checkpoint was given: --checkpoint CKPT.safetensors"
        return [Contestant(name, "fp32", spec, reason=reason) for name in TORCH_BACKENDS]
    if not checkpoint.is_file():
        raise CheckpointError(f"expected a checkpoint (.safetensors) at {checkpoint}, found no file; check the path")
    return [Contestant(name, "fp32", spec, checkpoint) for name in TORCH_BACKENDS]


def bundle_contestants(bundle: Bundle, asked: Collection[str] = ()) -> list[Contestant]:
    """Return a row for each backend and precision of its entries, and one for each backend that has none.

    What runs code out of the bundle (``BY_NAME``) runs only if ``asked`` names it.
    Of several engines of one precision the first that fits this machine takes part.
    """
    spec = bundle.manifest.model
    found = []
    for backend in BACKENDS:
        for precision in Precision:
            judged = [(entry, why_not(entry, backend)) for entry in candidates(bundle, backend, precision)]
            if judged:
                entry, reason = next((pair for pair in judged if pair[1] is None), judged[0])
                if backend in BY_NAME and backend not in asked:
                    reason = why_unasked(backend)
                found.append(Contestant(backend, precision.value, spec, bundle.read(entry), reason))
        if not candidates(bundle, backend):
            reason = why_unavailable(backend) or f"{bundle.path.name} holds no file for {backend}"
            found.append(Contestant(backend, None, spec, reason=reason))
    return found


def only(contestants: Iterable[Contestant], backends: Iterable[str]) -> list[Contestant]:
    """Return the contestants of these backends, or all if none is named.

    Raises:
        ConfigError: no backend has such a name.
    """
    wanted = set(backends)
    if unknown := sorted(wanted - set(NAMES)):
        raise ConfigError(f"expected backends out of {', '.join(NAMES)}, found {', '.join(unknown)}; check the names")
    return [c for c in contestants if not wanted or c.backend in wanted]
