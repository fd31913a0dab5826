"""How a TensorRT engine is built: plain settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .errors import ConfigError

# Names of ours -> TensorRT's HardwareCompatibilityLevel and ProfilingVerbosity.
HARDWARE_COMPATIBILITY = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
VERBOSITY = {"detailed": "DETAILED", "layer-names": "LAYER_NAMES_ONLY", "none": "NONE"}
_LEVELS = range(6)
_INT32, _INT64 = 2**31 - 1, 2**63 - 1  # what TensorRT's bindings take without an error of their own

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The inputs that one optimization profile takes; each a batch alone, ``(8,)``, or whole, ``(8, 1, 28, 28)``.

    Attributes:
        smallest: least input.
        best: the one that kernels are chosen for.
        largest: greatest input; buffers have this size.
    """

    smallest: Shape = (1,)
    best: Shape = (8,)
    largest: Shape = (64,)

    def __post_init__(self) -> None:
        shapes = (self.smallest, self.best, self.largest)
        ordered = all(1 <= a <= b <= c for a, b, c in zip(*shapes, strict=False))
        if len({len(shape) for shape in shapes}) != 1 or not self.smallest or not ordered:
            raise ConfigError(f"expected shapes with 1 <= MIN <= OPT <= MAX, found {self}; give 1:8:64 if in doubt")
        if max(self.largest) > _INT32:
            raise ConfigError(f"expected sizes up to {_INT32:,}, found {self}; give less")

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Return the profile written as ``1:8:64`` (batches), ``8`` (one batch) or ``1x1x28x28:8x1x28x28:64x1x28x28``.

        Raises:
            ConfigError: it is written in another way, or out of order.
        """
        try:
            shapes = [tuple(int(size) for size in part.split("x")) for part in text.split(":")]
        except ValueError:
            shapes = []
        if len(shapes) not in (1, 3):
            raise ConfigError(f"expected shapes such as 1:8:64 or 1x1x28x28:8x1x28x28:64x1x28x28, found {text!r}")
        return cls(*(shapes * 3 if len(shapes) == 1 else shapes))

    def __str__(self) -> str:
        return ":".join("x".join(map(str, shape)) for shape in (self.smallest, self.best, self.largest))


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built; ``TensorRT.check`` refuses what a family or a version lacks.

    Attributes:
        profiles: inputs the engine takes; each profile gets kernels of its own.
        workspace_bytes: memory a kernel may use beside its tensors; ``None`` leaves it to TensorRT.
        optimization_level: 0 (quickest build) to 5 (longest search); ``None`` leaves it to TensorRT.
        tf32: let FP32 products round their inputs to TF32, 10 bits of mantissa, on Ampere and later.
        sparsity: let kernels skip the zeros of weights of which two in four are zero.
        version_compatible: later versions of TensorRT run it, too; it holds host code and is slower.
        hardware_compatibility: out of ``HARDWARE_COMPATIBILITY``: other GPUs run it, too; ``None``: this one's kind.
        refit: its weights can be replaced.
        strip: leave out the weights, which are put back from the ONNX graph when it is loaded.
        dla_core: deep learning accelerator that runs what it can.
        gpu_fallback: let the GPU run what the accelerator cannot.
        max_aux_streams: streams beside the main one on which kernels may run at once; ``None`` leaves it to TensorRT.
        compute_capabilities: GPUs a TensorRT-RTX engine is for, such as ``("7.5",)``; ``None``: Ampere and later.
        verbosity: out of ``VERBOSITY``: what the engine tells of its kernels; below ``detailed`` nobody can say in
            which precision it computes.
    """

    profiles: tuple[Profile, ...] = (Profile(),)
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    tf32: bool = False
    sparsity: bool = False
    version_compatible: bool = False
    hardware_compatibility: str | None = None
    refit: bool = False
    strip: bool = False
    dla_core: int | None = None
    gpu_fallback: bool = False
    max_aux_streams: int | None = None
    compute_capabilities: tuple[str, ...] | None = None
    verbosity: str = "detailed"

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ConfigError("expected at least one profile, found none; give --shapes 1:8:64")
        if self.workspace_bytes is not None and not 1 <= self.workspace_bytes <= _INT64:
            raise ConfigError(f"expected a workspace of 1 to {_INT64:,} bytes, found {self.workspace_bytes:,}")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise ConfigError(f"expected an optimization level from 0 to 5, found {self.optimization_level}")
        if self.hardware_compatibility not in (None, *HARDWARE_COMPATIBILITY):
            known = ", ".join(HARDWARE_COMPATIBILITY)
            raise ConfigError(
                f"expected a hardware compatibility out of {known}, found {self.hardware_compatibility!r}"
            )
        if self.verbosity not in VERBOSITY:
            raise ConfigError(f"expected a verbosity out of {', '.join(VERBOSITY)}, found {self.verbosity!r}")
        if self.gpu_fallback and self.dla_core is None:
            raise ConfigError("expected --dla-core beside --gpu-fallback, found none; name the core or leave it out")
        for name, value in (("DLA core", self.dla_core), ("number of auxiliary streams", self.max_aux_streams)):
            if value is not None and not 0 <= value <= _INT32:
                raise ConfigError(f"expected a {name} of 0 to {_INT32:,}, found {value}")
        capabilities = self.compute_capabilities or ()
        if len(set(capabilities)) < len(capabilities):
            raise ConfigError(f"expected each compute capability once, found {', '.join(capabilities)}; leave one out")

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are not the defaults, as plain JSON values."""
        defaults = asdict(DEFAULTS)
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


DEFAULTS = BuildOptions()
