"""Whether an engine, or one built here, can run on this GPU: told before TensorRT sees it."""

from __future__ import annotations

from .device import Gpu
from .jetson import JETSON_GPUS
from .manifest import Entry
from .precision import Precision

# TensorRT 10's version-compatible engines run on 11; others on later versions of their major alone (NVIDIA, "Support
# Matrix", engine portability).
_NEXT_MAJOR = {10: 11}
# First compute capability whose tensor cores compute in it (NVIDIA, "Hardware Support Matrix").
SINCE = {Precision.FP8: 8.9, Precision.BF16: 8.0, Precision.TF32: 8.0, Precision.INT8: 7.2, Precision.MIXED: 7.2}


def misfit(entry: Entry, version: str, gpu: Gpu | None) -> str | None:
    """Return in one line why the engine ``entry`` cannot run here, or ``None`` if nothing is known against it.

    Args:
        entry: of a TensorRT engine.
        version: of the TensorRT here.
        gpu: the one here; ``None`` where there is none, which other checks tell of.
    """
    facts = entry.built_for
    built_by, fits = facts.get("tensorrt", version), facts.get("compute_capabilities")
    if gpu is not None and hardware_compatible(entry) and (reason := no_hardware_compatibility(gpu)):
        return f"{entry.path} is hardware compatible: {reason}; run quillrt build"
    right_version = built_by == version or (holds_host_code(entry) and _follows(version, built_by))
    right_gpu = gpu is None or fits is None or any(_covers(each, gpu.compute_capability) for each in fits)
    if right_version and right_gpu:
        return None
    here = f"{version} on SM {gpu.compute_capability} ({gpu.name})" if gpu else version
    family = entry.backends[0]
    there = f"{built_by} on SM {', '.join(fits)}" if fits else built_by
    return f"{entry.path} is for {family} {there}, this is {here}; run quillrt build"


def holds_host_code(entry: Entry) -> bool:
    """Tell whether loading the engine runs code of whoever made it on the processor: a version-compatible one does."""
    return entry.built_for.get("options", {}).get("version_compatible") is True


def hardware_compatible(entry: Entry) -> bool:
    """Tell whether the engine was built to run on other kinds of GPU, too, than the one it was built on."""
    facts = entry.built_for
    several = any(each.endswith("+") for each in facts.get("compute_capabilities", ()))
    return several or facts.get("options", {}).get("hardware_compatibility") is not None


def no_hardware_compatibility(gpu: Gpu) -> str | None:
    """Return why ``gpu`` neither builds nor runs hardware compatible engines, or ``None`` if it does.

    NVIDIA, "Engine Compatibility": not on JetPack.
    """
    if gpu.compute_capability not in JETSON_GPUS:
        return None
    return f"TensorRT supports that on no Jetson, and this is one ({gpu.name}, {gpu.compute_capability})"


def cannot_build(precision: Precision | None, gpu: Gpu) -> str | None:
    """Return why ``gpu`` has no kernels for a graph in ``precision``, or ``None`` if it has."""
    since = SINCE.get(precision, 0.0) if precision else 0.0
    if float(gpu.compute_capability) >= since:
        return None
    name = precision.value if precision else ""
    return f"{name} needs compute capability {since}, this {gpu.name} has {gpu.compute_capability}"


def _follows(version: str, built_by: str) -> bool:
    here, there = (tuple(int(part) for part in text.split(".") if part.isdigit()) for text in (version, built_by))
    return here >= there and bool(there) and here[0] in (there[0], _NEXT_MAJOR.get(there[0]))


def _covers(listed: str, capability: str) -> bool:
    """Tell whether ``listed``, such as ``8.7`` or ``8.0+`` (that one and later), takes in ``capability``."""
    if listed.endswith("+"):
        return float(capability) >= float(listed.removesuffix("+"))
    return listed == capability
