"""Which file of a bundle this machine should run, and with which backend."""

from __future__ import annotations

from .backends import BACKENDS, check_name, open_session, why_unavailable
from .bundle import Bundle
from .device import describe_device
from .errors import BackendUnavailable
from .manifest import Entry
from .precision import Precision
from .session import Session, SessionOptions

# Fastest first. CPUs have no FP16 arithmetic that onnxruntime uses: it computes FP16 graphs through casts.
_FASTEST = (Precision.FP8, Precision.INT8, Precision.FP16, Precision.BF16, Precision.TF32, Precision.FP32)
_FASTEST_ON_CPU = (Precision.INT8, Precision.FP32, Precision.TF32, Precision.BF16, Precision.FP16, Precision.FP8)


def find_entry(bundle: Bundle, backend: str, precision: Precision | None = None) -> Entry | None:
    """Return the entry that ``backend`` opens in ``precision``, by default the likely fastest; ``None`` if none."""
    order = _FASTEST_ON_CPU if backend in ("onnxruntime-cpu", "openvino") else _FASTEST
    held = {entry.precision: entry for entry in bundle.entries if backend in entry.backends}
    wanted = order if precision is None else (precision,)
    return next((held[p] for p in wanted if p in held), None)


def why_not(bundle: Bundle, backend: str, precision: Precision | None = None) -> str | None:
    """Return in one line why ``bundle`` cannot run with ``backend`` here, or ``None`` if it can."""
    entry = find_entry(bundle, backend, precision)
    if entry is None:
        wanted = "file" if precision is None else f"{precision.value} file"
        return f"{bundle.path.name} holds no {wanted} for {backend}"
    if reason := why_unavailable(backend):
        return reason
    fits = entry.built_for.get("compute_capabilities")
    if not fits:
        return None  # without asking the driver, which takes time that no CPU backend should wait for
    gpus = describe_device().gpus
    if gpus and gpus[0].compute_capability not in fits:
        return (
            f"{entry.path} is built for compute capability {', '.join(fits)}, "
            f"this {gpus[0].name} has {gpus[0].compute_capability}; compile it for this GPU"
        )
    return None


def open_bundle_session(
    bundle: Bundle,
    backend: str | None = None,
    precision: Precision | None = None,
    options: SessionOptions = SessionOptions(),
) -> Session:
    """Open what ``bundle`` holds for ``backend``, by default for the first backend in ``BACKENDS`` that works here.

    Raises:
        ConfigError: no backend has this name.
        BackendUnavailable: nothing in the bundle can run here; the message says why for each backend it is for.
        BundleError: the backend refuses the file.
    """
    entry, chosen = choose(bundle, backend, precision)
    return open_session(chosen, bundle.read(entry), bundle.manifest.model, options)


def choose(bundle: Bundle, backend: str | None = None, precision: Precision | None = None) -> tuple[Entry, str]:
    """Return the entry and the backend that ``open_bundle_session`` opens."""
    if backend is not None:
        check_name(backend)
    reasons = []
    for name in BACKENDS if backend is None else (backend,):
        reason = why_not(bundle, name, precision)
        entry = find_entry(bundle, name, precision)
        if reason is None and entry is not None:
            return entry, name
        if entry is not None or backend is not None:
            reasons.append(str(reason))
    holds = sorted({f"{name} {e.precision.value}" for e in bundle.entries if e.precision for name in e.backends})
    raise BackendUnavailable(
        f"expected something in {bundle.path.name} that runs on {describe_device().text()}; "
        f"it holds {', '.join(holds)}, but: {'; '.join(reasons) or 'none in the precision asked for'}"
    )
