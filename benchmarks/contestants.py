"""Who takes part in a benchmark: a model, the backend that runs it, or the reason why it cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from quillrt.runtime.backends import (
    BACKENDS,
    BY_NAME,
    open_session,
    why_unasked,
    why_unavailable,
)
from quillrt.runtime.build_options import BuildOptions, Profile
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.engine_fit import holds_host_code
from quillrt.runtime.errors import BackendUnavailable, CheckpointError, QuillError
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.select import buildable, candidates, model_of, why_not
from quillrt.runtime.session import Session, SessionOptions
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.tensorrt_api import FAMILIES
from quillrt.runtime.trt_build import build_engine

from . import torch_sessions
from .results import named
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
        options: options of its own library that it runs with.
        cuda_graph: submit each query as one CUDA graph.
        variant: what of these tells it from the other rows of its backend and precision.
        batch: the one batch size that it is measured at; ``None``: at all.
        worker: the class that measures it in its process.
        kind: ``backend``, or ``peer`` for another's way to measure.
        build_s: time its engine took to build, where the bundle says so.
        graph: how its engine was built, and from which file, where that is at hand.
        host_code: its engine holds code for the processor, of whoever made it.
        threads: CPU threads of a query; ``None``: the run's.
        image_size: pixels a side of a network as it was initialised; ``None``: the bundle's model.
        computes: multiply-adds of one image by datatype, as the bundle tells them of its kernels; else empty.
    """

    backend: str
    precision: str | None
    spec: ModelSpec
    model: bytes | Path = b""
    reason: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    cuda_graph: bool = False
    variant: str = ""
    batch: int | None = None
    worker: str = "quillrt.benchmarks.worker:Bench"
    kind: str = "backend"
    build_s: float | None = None
    graph: tuple[BuildOptions, bytes] | None = None
    host_code: bool = False
    computes: Mapping[str, int] = field(default_factory=dict)
    threads: int | None = None
    image_size: int | None = None

    @property
    def on_gpu(self) -> bool:
        """It computes on a GPU."""
        return is_gpus(self.backend)

    @property
    def compiles_at_first_query(self) -> bool:
        """Its first query at a batch size is mostly the compiler's work."""
        return self.backend in ("torch-compile", "torch-compile-cuda")

    @property
    def artifact_bytes(self) -> int:
        """Size of the file it loads."""
        return self.model.stat().st_size if isinstance(self.model, Path) else len(self.model)

    @property
    def no_build(self) -> str | None:
        """Why no time of a build is told; ``None`` where there was a build."""
        return None if self.backend in FAMILIES else "it loads its file as it is"

    @property
    def name(self) -> str:
        """As rows are called."""
        return named(self.backend, self.precision, self.variant, self.threads, self.image_size)

    def open(self, options: SessionOptions) -> Session:
        """Load the model.

        Raises:
            QuillError: it cannot run here.
        """
        if self.reason is not None:
            raise BackendUnavailable(self.reason)
        tf32 = self.precision == Precision.TF32
        options = replace(
            options, provider_options=self.options, cuda_graph=self.cuda_graph, tf32=tf32, host_code=self.host_code
        )
        if isinstance(self.model, Path):
            return open_torch_session(self.backend, self.model, options, Precision.parse(str(self.precision)))
        return open_session(self.backend, self.model, self.spec, options)


NAMES = (*TORCH_BACKENDS, *BACKENDS)


def is_gpus(backend: str) -> bool:
    """Tell whether a backend, or a peer, computes on a GPU."""
    return backend.endswith(("-cuda", "-tensorrt")) or backend in (*FAMILIES, "trtexec")


def torch_contestants(
    spec: ModelSpec, checkpoint: Path | None, precisions: Collection[Precision] = (Precision.FP32,)
) -> list[Contestant]:
    """Return PyTorch's rows: the network as it was trained, on a GPU in each of ``precisions`` that PyTorch has.

    Raises:
        CheckpointError: there is no such file.
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(f"expected a checkpoint (.safetensors) at {checkpoint}, found no file; check the path")
    reason = None if checkpoint else "no checkpoint was given: --checkpoint CKPT.safetensors"
    on_gpu = [precision for precision in torch_sessions.PRECISIONS if precision in precisions]
    return [
        Contestant(name, precision.value, spec, checkpoint or b"", reason or torch_sessions.why_unavailable(name))
        for name, (_, device) in TORCH_BACKENDS.items()
        for precision in (on_gpu if device == "cuda" else (Precision.FP32,))
    ]


def bundle_contestants(bundle: Bundle, asked: Collection[str] = (), device: int = 0) -> list[Contestant]:
    """Return a row for each backend and precision of its entries, and one for each backend that has none.

    What runs code out of the bundle (``BY_NAME``, and version-compatible engines) runs only if ``asked`` names it.
    Of several engines of one precision the first that fits the GPU ``device`` takes part; a backend out of
    ``backends.TF32`` has a row in that precision, too.
    """
    spec = bundle.manifest.model
    found = []
    for backend in BACKENDS:
        for precision in Precision:
            judged = [
                (entry, _why_not(entry, backend, asked, device, precision))
                for entry in candidates(bundle, backend, precision)
            ]
            if judged:
                entry, reason = next((pair for pair in judged if pair[1] is None), judged[0])
                found.append(_of_entry(bundle, entry, reason, backend, precision, device))
        if not candidates(bundle, backend):
            build = f"; quillrt build {bundle.path.name} --backend {backend} --write" if backend in FAMILIES else ""
            reason = why_unavailable(backend, device) or f"{bundle.path.name} holds no file for {backend}{build}"
            found.append(Contestant(backend, None, spec, reason=reason))
    return found


def _why_not(entry: Entry, backend: str, asked: Collection[str], device: int, precision: Precision) -> str | None:
    if backend not in asked and (backend in BY_NAME or holds_host_code(entry)):
        return why_unasked(backend)
    return why_not(entry, backend, device, precision)


def _of_entry(
    bundle: Bundle, entry: Entry, reason: str | None, backend: str, precision: Precision, device: int
) -> Contestant:
    """Return the row of an entry; an engine without weights gets those of its graph."""
    host_code, model = holds_host_code(entry), bundle.read(entry)
    if reason is None:
        try:
            model = model_of(bundle, entry, backend, SessionOptions(device=device, host_code=host_code))
        except QuillError as error:
            reason = str(error)
    graph = next(iter(buildable(bundle, backend, precision)), None) if entry.kind == "engine" else None
    return Contestant(
        backend,
        precision.value,
        bundle.manifest.model,
        model,
        reason,
        build_s=entry.built_for.get("seconds"),
        graph=(_built_as(entry), bundle.read(graph)) if graph else None,
        host_code=host_code,
        computes=_computes(entry, backend),
    )


def rebuilt(contestant: Contestant, device: int = 0) -> tuple[Contestant, float | None]:
    """Return a contestant with its engine built anew, and the seconds that took; as it is where it has no builder.

    A builder chooses kernels by timing them, so two engines of one graph may differ in speed; timings kept by earlier
    builds would hide that, and are not used.

    Raises:
        QuillError: it cannot be built here.
    """
    if contestant.graph is None:
        return contestant, contestant.build_s
    options, onnx = contestant.graph
    built = build_engine(onnx, contestant.backend, options, device=device)
    return replace(contestant, model=built.engine), built.seconds


def _computes(entry: Entry, backend: str) -> Mapping[str, int]:
    """Return what was told of an engine's kernels, or of those that a backend makes of a graph."""
    told = entry.built_for if entry.kind == "engine" else entry.built_for.get("kernels", {}).get(backend, {})
    found: Mapping[str, int] = told.get("macs", {})
    return found


def _built_as(entry: Entry) -> BuildOptions:
    """Return the options that an engine was built with, as its entry tells."""
    changed = dict(entry.built_for.get("options", {}))
    if "profiles" in changed:
        shapes = [{name: tuple(shape) for name, shape in each.items()} for each in changed["profiles"]]
        changed["profiles"] = tuple(Profile(**each) for each in shapes)
    if changed.get("compute_capabilities"):
        changed["compute_capabilities"] = tuple(changed["compute_capabilities"])
    return BuildOptions(**changed)
