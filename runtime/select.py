"""Which file of a bundle this machine should run, and with which backend."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace

from . import engine_fit
from .backends import BACKENDS, BY_NAME, CPU_BACKENDS, check_name, open_session, why_unasked, why_unavailable
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
_FP8_SINCE = 8.9  # compute capability (TensorRT's support matrix)
_X86_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}


def candidates(bundle: Bundle, backend: str, precision: Precision | None = None) -> list[Entry]:
    """Return the entries that ``backend`` opens, of ``precision`` alone if one is given, the likely fastest first."""
    return [
        entry
        for each in _fastest_first(backend)
        if precision in (None, each)
        for entry in bundle.entries
        if entry.precision is each and backend in entry.backends
    ]


def buildable(bundle: Bundle, family: str, precision: Precision | None = None) -> list[Entry]:
    """Return the graphs that ``family`` builds an engine of, of ``precision`` alone if one is given, as above."""
    return [
        entry
        for each in _fastest_first(family)
        if precision in (None, each)
        for entry in bundle.entries
        if entry.precision is each and family in entry.typed_for
    ]


def why_not(entry: Entry, backend: str) -> str | None:
    """Return in one line why ``backend`` cannot run ``entry`` here, or ``None`` if nothing is known against it."""
    if reason := why_unavailable(backend):
        return reason
    if backend == "pytorch-aot":
        from .pt2 import misfit

        return misfit(entry)
    if backend == "onnxruntime-tensorrt" and entry.precision is Precision.FP8:
        return _why_no_fp8(entry)
    if backend not in FAMILIES:
        return None  # without asking the driver, which takes time that no CPU backend should wait for
    gpus = describe_device().gpus
    return engine_fit.misfit(entry, load(backend).version, gpus[0] if gpus else None)


def _why_no_fp8(entry: Entry) -> str | None:
    for gpu in describe_device().gpus[:1]:
        if float(gpu.compute_capability) < _FP8_SINCE:
            return (
                f"{entry.path} needs compute capability {_FP8_SINCE} for FP8, this {gpu.name} has "
                f"{gpu.compute_capability}; choose another --precision"
            )
    return None


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
    names = [name for name in BACKENDS if name not in BY_NAME] if backend is None else [backend]
    reasons = [why_unasked(name) for name in BY_NAME if name not in names and candidates(bundle, name, precision)]
    pairs = [(name, entry) for name in names for entry in _files(bundle, name, precision)]
    for name, entry in _preferred_first(bundle, pairs):
        reason = why_not(entry, name) if entry.kind != "onnx" or name not in FAMILIES else _why_not_built(entry, name)
        if reason is None and backend is None and entry.kind == "engine" and engine_fit.holds_host_code(entry):
            reason = why_unasked(name)
        if reason is None:
            try:
                model = _model(bundle, entry, name, cache, phases, say)
                host_code = entry.kind == "engine" and engine_fit.holds_host_code(entry)
                settings = replace(options, cache=cache, host_code=host_code)
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


def _why_not_built(graph: Entry, family: str) -> str | None:
    """Return why no engine of ``graph`` can be built and run here, or ``None`` if nothing is known against it."""
    if reason := why_unavailable(family):
        return reason
    return engine_fit.cannot_build(graph.precision, describe_device().gpus[0])


def _model(
    bundle: Bundle, entry: Entry, backend: str, cache: Cache, phases: Phases, say: Callable[[str], None]
) -> bytes:
    """Return what ``backend`` opens of ``entry``: the file itself, or an engine built of it."""
    if backend not in FAMILIES:
        return bundle.read(entry)
    from .native import built_engine, with_weights  # what only builds need

    if entry.kind == "engine":
        return with_weights(bundle, entry, backend, cache)
    say(f"{entry.path}: no engine in the bundle fits this GPU; building one, or taking the one built before")
    built, built_now = built_engine(cache, entry, bundle.read(entry), backend, phases=phases)
    say(f"{'built' if built_now else 'taken from the cache, built once'} in {built.seconds:.1f} s")
    return built.engine


def _preferred_first(bundle: Bundle, pairs: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    preferred = bundle.manifest.preferred
    chosen = [pair for pair in pairs if (pair[0], pair[1].path) == (preferred.get("backend"), preferred.get("path"))]
    others = [pair for pair in pairs if pair not in chosen]
    on_cpu = any(name in CPU_BACKENDS for name, _ in chosen)
    before = [pair for pair in others if on_cpu and pair[0] not in CPU_BACKENDS]
    return [*before, *chosen, *(pair for pair in others if pair not in before)]


def _fastest_first(backend: str) -> tuple[Precision, ...]:
    if backend not in CPU_BACKENDS:
        return _ON_GPU
    # Without these, x86 sums pairs of 8-bit products in 16 bits: it saturates and is slower than FP32 (ONNX Runtime,
    # "Quantize ONNX models", on AVX2 and AVX512).
    x86 = platform.machine() in ("x86_64", "AMD64")
    return _ON_CPU_WITHOUT_INT8 if x86 and _X86_INT8.isdisjoint(processor()[1]) else _ON_CPU
