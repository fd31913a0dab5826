"""How TensorRT engines are built: the options that `compile` and `build` share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.verbs import Option, flag

if TYPE_CHECKING:
    from quillrt.runtime.build_options import BuildOptions

_MIB = 2**20


# By field of BuildOptions; three are written in another form than they are kept in.
BUILD: dict[str, Option] = {
    "profiles": (
        flag(
            list[str] | None,
            "--shapes",
            metavar="MIN:OPT:MAX",
            help="Batches an engine takes, as 1:8:64 (the default), or whole shapes, 1x1x28x28:8x1x28x28:64x1x28x28; "
            "repeat for several profiles.",
        ),
        None,
    ),
    "workspace_bytes": (
        flag(float | None, "--workspace", help="MiB a kernel may use beside its tensors."),
        None,
    ),
    "optimization_level": (
        flag(int | None, "--optimization-level", help="0 (quickest build) to 5 (longest search)."),
        None,
    ),
    "tf32": (flag(bool, "--tf32", help="Let FP32 products round to TF32, on Ampere and later."), False),
    "sparsity": (flag(bool, "--sparsity", help="Use kernels for weights with two zeros in four."), False),
    "version_compatible": (
        flag(bool, "--version-compatible", help="Later TensorRT versions run the engine, too; it is slower."),
        False,
    ),
    "hardware_compatibility": (
        flag(
            str | None,
            "--hardware-compatibility",
            help="ampere-plus or same-compute-capability: other GPUs run the engine, too, but no Jetson; it is slower.",
        ),
        None,
    ),
    "refit": (flag(bool, "--refit", help="Weights of the engine can be replaced."), False),
    "strip": (
        flag(bool, "--strip", help="Leave out the weights; they are put back from the bundle's graph on loading."),
        False,
    ),
    "dla_core": (flag(int | None, "--dla-core", help="Run on this deep learning accelerator of a Jetson."), None),
    "gpu_fallback": (flag(bool, "--gpu-fallback", help="The GPU runs what the accelerator cannot."), False),
    "max_aux_streams": (
        flag(int | None, "--max-aux-streams", help="Streams for kernels beside the main one."),
        None,
    ),
    "compute_capabilities": (
        flag(
            list[str] | None,
            "--compute-capability",
            metavar="N.N",
            help="GPUs a tensorrt-rtx engine is for, as 8.9; repeat. Default: Ampere and later.",
        ),
        None,
    ),
    "verbosity": (
        flag(
            str,
            "--verbosity",
            help="What an engine tells of its kernels: detailed; by layer-names or none, not what it computes in.",
        ),
        "detailed",
    ),
}
TimingCache = Annotated[
    Path | None,
    typer.Option("--timing-cache", help="File of kernel timings that builds share. Default: one for each GPU."),
]
AllowFallback = Annotated[
    bool, typer.Option("--allow-fallback", help="Take an engine that multiplies in another precision than asked for.")
]


def build_options(chosen: dict[str, Any]) -> BuildOptions:
    """Return the settings of ``BUILD`` that a user chose.

    Raises:
        ConfigError: one is out of its range.
    """
    from quillrt.runtime.build_options import DEFAULTS, BuildOptions, Profile
    from quillrt.runtime.errors import ConfigError

    settings = {name: chosen[name] for name in BUILD}
    shapes, workspace = settings["profiles"], settings["workspace_bytes"]
    settings["profiles"] = tuple(map(Profile.parse, shapes)) if shapes else DEFAULTS.profiles
    if workspace is not None and not 0 < workspace < math.inf:
        raise ConfigError(f"expected a --workspace above 0 MiB, found {workspace}")
    settings["workspace_bytes"] = None if workspace is None else round(workspace * _MIB)
    settings["compute_capabilities"] = tuple(settings["compute_capabilities"] or ()) or None
    return BuildOptions(**settings)
