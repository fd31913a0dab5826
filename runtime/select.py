"""Which file of a bundle this machine should run, and with which backend."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace

from . import engine_fit
from .backends import (
    BACKENDS,
    BY_NAME,
    CPU_BACKENDS,
    TF32,
    check_graph,
    check_name,
    open_session,
    why_unasked,
    why_unavailable,
)
from .build_options import BuildOptions
from .bundle import Bundle
from .cache import NO_CACHE, Cache
from .device import describe_device, processor
from .errors import BackendUnavailable, BuildError, ConfigError
from .manifest import Entry
from .ort_options import OPTIONS, check_options
from .precision import Precision
from .progress import Phases, no_phases
from .session import Session, SessionOptions
from .tensorrt_api import FAMILIES, load

# Likely fastest first. CPUs have no FP16 arithmetic that onnxruntime uses: it computes FP16 graphs through casts.
_ON_GPU = (
    *(Precision.FP8, Precision.MIXED, Precision.INT8, Precision.FP16),
    *(Precision.BF16, Precision.TF32, Precision.FP32),
)
_ON_CPU = (
    *(Precision.INT8, Precision.FP32, Precision.TF32, Precision.BF16),
    *(Precision.FP16, Precision.MIXED, Precision.FP8),
)
_ON_CPU_WITHOUT_INT8 = (Precision.FP32, Precision.INT8, *_ON_CPU[2:])
_BUILDERS = (*FAMILIES, "onnxruntime-tensorrt")  # they build for this GPU what they are given
_X86_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}


def candidates(bundle: Bundle, backend: str, precision: Precision | None = None) -> list[Entry]:
    """Return the entries that ``backend`` opens, of ``precision`` alone if one is given, the likely fastest first.

    For TF32 a backend out of ``backends.TF32`` opens the FP32 graph.
    """
    if precision is Precision.TF32 and backend in TF32:
        precision = Precision.FP32
    return _fastest_first(backend, [entry for entry in bundle.entries if backend in entry.backends], precision)


def buildable(bundle: Bundle, family: str, precision: Precision | None = None) -> list[Entry]:
    """Return the graphs that ``family`` builds an engine of, as ``candidates`` does; for TF32 the FP32 graphs."""
    if precision is Precision.TF32:
        precision = Precision.FP32
    return _fastest_first(family, [entry for entry in bundle.entries if family in entry.typed_for], precision)


def why_not(entry: Entry, backend: str, device: int = 0, precision: Precision | None = None) -> str | None:
    """Return in one line why ``backend`` cannot run ``entry`` here, or ``None`` if nothing is known against it.

    Args:
        entry: a graph, an engine or a program.
        backend: that would run it.
        device: index of the GPU.
        precision: what it is asked to compute in; ``None``: the entry's.
    """
    if reason := why_unavailable(backend, device):
        return reason
    if backend == "pytorch-aot":
        from .pt2 import misfit

        return misfit(entry)
    if backend in CPU_BACKENDS or backend in BY_NAME:  # to ask for the GPU takes time
        return None
    gpu = describe_device().gpu(device)
    if backend in FAMILIES and entry.kind == "engine":
        return engine_fit.misfit(entry, load(backend).version, gpu)
    if gpu is None or (backend not in _BUILDERS and precision is not Precision.TF32):
        return None
    return engine_fit.cannot_build(precision or entry.precision, gpu)


def model_of(bundle: Bundle, entry: Entry, backend: str, options: SessionOptions = SessionOptions()) -> bytes:
    """Return what ``backend`` opens of ``entry``: the file, an engine without weights getting those of its graph.

    Args:
        bundle: holds the entry.
        entry: a graph, an engine or a program.
        backend: that will run it.
        options: of the session that it is for.

    Raises:
        QuillError: as ``native.with_weights``.
    """
    if backend not in FAMILIES or not entry.built_for.get("options", {}).get("strip"):
        return bundle.read(entry)
    from .native import with_weights

    return with_weights(bundle, entry, backend, options)


def open_fitting(
    bundle: Bundle,
    backend: str | None = None,
    precision: Precision | None = None,
    options: SessionOptions = SessionOptions(),
    cache: Cache = NO_CACHE,
    phases: Phases = no_phases,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Session, Entry, str]:
    """Open the first file that works here: by ``BACKENDS``' order, the likely fastest precision of each first.

    What was timed when the bundle was made comes before the other backends of its kind, CPU or GPU. Where no engine
    fits this GPU, one is built of the bundle's graph and kept. What runs code out of the bundle (``BY_NAME``, and
    version-compatible engines) is opened only where ``backend`` names it.

    Args:
        bundle: what to open.
        backend: the only one to try.
        precision: the only one to try.
        options: of the session.
        cache: keeps the engines that are built.
        phases: shows progress of a build.
        say: is told in a line what is being built and how long it took.

    Returns:
        The session, the entry that it runs (of the engine's graph where it was built here), and the backend's name.

    Raises:
        ConfigError: no backend has this name, or ``options`` has provider options and no backend that takes them.
        BackendUnavailable: nothing in the bundle can run here; the message says why for each file.
        BundleError: the backend refuses the file.
    """
    if backend is not None:
        check_name(backend)
        check_options(backend, options.provider_options)
    elif options.provider_options:
        raise ConfigError(
            f"expected the backend that {', '.join(options.provider_options)} belongs to, found none named; "
            f"add --backend {' or '.join(OPTIONS)}"
        )
    check_graph(backend, options)
    names = [name for name in BACKENDS if name not in BY_NAME] if backend is None else [backend]
    reasons = [why_unasked(name) for name in BY_NAME if name not in names and candidates(bundle, name, precision)]
    pairs = [(name, entry) for name in names for entry in _files(bundle, name, precision)]
    for name, entry in _preferred_first(bundle, pairs):
        host_code = engine_fit.holds_host_code(entry)
        settings = replace(options, cache=cache, host_code=host_code, tf32=precision is Precision.TF32)
        reason = why_not(entry, name, options.device, precision)
        if host_code and backend is None:
            reason = reason or why_unasked(name)
        if reason is None:
            try:
                if name in FAMILIES and entry.kind == "onnx":
                    model = _built(bundle, entry, name, settings, phases, say)
                else:
                    model = model_of(bundle, entry, name, settings)
                return open_session(name, model, bundle.manifest.model, settings), entry, name
            except BackendUnavailable as error:
                if backend is not None:  # who asks for one wants it, or its own words
                    raise
                reason = str(error)
            except BuildError as error:  # another precision may build
                reason = str(error)
        reasons.append(reason)
    holds = sorted({f"{name} {e.precision.value}" for e in bundle.entries if e.precision for name in e.backends})
    raise BackendUnavailable(
        f"expected something in {bundle.path.name} that runs on {describe_device().text()}; "
        f"it holds {', '.join(holds) or 'nothing that runs'}, "
        f"but: {'; '.join(dict.fromkeys(reasons)) or 'none is of the backend and precision asked for'}"
    )


def _files(bundle: Bundle, backend: str, precision: Precision | None) -> list[Entry]:
    """Return what ``backend`` can open, then the graphs it can build an engine of."""
    graphs = buildable(bundle, backend, precision) if backend in FAMILIES else []
    return [*candidates(bundle, backend, precision), *graphs]


def _built(
    bundle: Bundle, graph: Entry, family: str, options: SessionOptions, phases: Phases, say: Callable[[str], None]
) -> bytes:
    """Return an engine of ``graph`` for the session's GPU, built now or before."""
    from .fallback import fallback
    from .native import built_engine

    how, onnx = BuildOptions(tf32=options.tf32), bundle.read(graph)
    say(f"{graph.path}: no engine in the bundle fits this GPU; building one, or taking the one built before")
    built, built_now = built_engine(options.cache, graph, onnx, family, how, None, phases, options.device)
    say(f"{'built' if built_now else 'taken from the cache, built once'} in {built.seconds:.1f} s")
    if strays := fallback(bundle, graph, built):
        say(strays)
    return built.engine


def _preferred_first(bundle: Bundle, pairs: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    preferred = bundle.manifest.preferred
    chosen = [pair for pair in pairs if (pair[0], pair[1].path) == (preferred.get("backend"), preferred.get("path"))]
    others = [pair for pair in pairs if pair not in chosen]
    on_cpu = any(name in CPU_BACKENDS for name, _ in chosen)
    before = [pair for pair in others if on_cpu and pair[0] not in CPU_BACKENDS]
    return [*before, *chosen, *(pair for pair in others if pair not in before)]


def _fastest_first(backend: str, entries: list[Entry], precision: Precision | None) -> list[Entry]:
    """Return those of ``entries`` that compute, of ``precision`` alone if one is given, the likely fastest first."""
    return [
        entry
        for each in _precisions(backend)
        if precision in (None, each)
        for entry in entries
        if entry.precision is each
    ]


def _precisions(backend: str) -> tuple[Precision, ...]:
    if backend not in CPU_BACKENDS:
        return _ON_GPU
    # Without these, x86 sums pairs of 8-bit products in 16 bits: it saturates and is slower than FP32 (ONNX Runtime,
    # "Quantize ONNX models", on AVX2 and AVX512).
    x86 = platform.machine() in ("x86_64", "AMD64")
    return _ON_CPU_WITHOUT_INT8 if x86 and _X86_INT8.isdisjoint(processor()[1]) else _ON_CPU
