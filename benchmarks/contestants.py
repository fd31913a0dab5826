"""Who takes part in a benchmark: a model, the backend that runs it, or the reason why it cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from quillrt.runtime.backends import BACKENDS, BY_NAME, open_session, why_unasked, why_unavailable
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, ConfigError, QuillError
from quillrt.runtime.ort_options import OPTIONS, check_options
from quillrt.runtime.precision import Precision
from quillrt.runtime.select import candidates, model_of, why_not
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
        options: provider options it runs with.
        variant: which of them tell it from the other rows of its backend and precision.
    """

    backend: str
    precision: str | None
    spec: ModelSpec
    model: bytes | Path = b""
    reason: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""

    @property
    def name(self) -> str:
        """Backend, precision and variant, as rows are called."""
        return " ".join(filter(None, (self.backend, self.precision, self.variant)))

    def open(self, options: SessionOptions) -> Session:
        """Load the model.

        Raises:
            QuillError: it cannot run here.
        """
        options = replace(options, provider_options=self.options)
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
                model = bundle.read(entry)
                if reason is None:
                    try:
                        model = model_of(bundle, entry, backend)
                    except QuillError as error:
                        reason = str(error)
                found.append(Contestant(backend, precision.value, spec, model, reason))
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


def tuned(
    contestants: Sequence[Contestant], options: Mapping[str, str], variants: Sequence[tuple[str, str]]
) -> list[Contestant]:
    """Return the contestants with provider options, each whose backend takes any once more for each of ``variants``.

    Args:
        contestants: who takes part.
        options: what all of them run with whose backend takes options.
        variants: what one further row each has besides.

    Raises:
        ConfigError: no backend takes options, or one does not take these.
    """
    asked = dict([*options.items(), *variants])
    if asked and not any(contestant.backend in OPTIONS for contestant in contestants):
        named = ", ".join(dict.fromkeys(contestant.backend for contestant in contestants))
        raise ConfigError(
            f"expected a backend that takes {', '.join(asked)}, found {named}; add --backend {' or '.join(OPTIONS)}"
        )
    found = []
    for contestant in contestants:
        if contestant.backend not in OPTIONS:
            found.append(contestant)
            continue
        found.append(replace(contestant, options=options))
        for key, value in variants:
            found.append(replace(contestant, options={**options, key: value}, variant=f"{key}={value}"))
    for contestant in found:
        check_options(contestant.backend, contestant.options)
    return found
