"""Whether an engine, or one built here, can run on this GPU: told before TensorRT sees it."""

from __future__ import annotations

from .device import Gpu
from .manifest import Entry
from .precision import Precision

# TensorRT 10's version-compatible engines run on 11; others on later versions of their major alone (NVIDIA, "Support
# Matrix", engine portability).
_NEXT_MAJOR = {10: 11}
# Xavier, Orin and Thor (10.1 before CUDA 13): their engines fit no other GPU, and others' none of theirs. TensorRT has
# no hardware compatibility on JetPack (NVIDIA, "Engine Compatibility").
EMBEDDED = ("7.2", "8.7", "10.1", "11.0")
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
        return capability not in EMBEDDED and float(capability) >= float(listed.removesuffix("+"))
    return listed == capability
