"""What to compile to: plain settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from quillrt.calibration.methods import Method
from quillrt.runtime.backends import CPU_BACKENDS
from quillrt.runtime.build_options import DEFAULTS, BuildOptions
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.precision import Precision
from quillrt.runtime.tensorrt_api import FAMILIES

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8, Precision.FP8, Precision.MIXED)
DEFAULT_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)  # what every target has
CALIBRATED = (Precision.INT8, Precision.MIXED, Precision.FP8)
_LARGEST_BATCH = 4096
TARGETS = (*CPU_BACKENDS, *FAMILIES, "pytorch")
# What the targets compute in that do not compute in all.
_COMPUTED = {
    "onnxruntime-cpu": (Precision.FP32, Precision.FP16, Precision.INT8),
    "openvino": (Precision.FP32, Precision.INT8),
    "litert": (Precision.FP32, Precision.INT8),
}


def computes(target: str, precisions: Iterable[Precision]) -> bool:
    """Tell whether ``target`` has files of one of ``precisions``."""
    return not set(_COMPUTED.get(target, PRECISIONS)).isdisjoint(precisions)


@dataclass(frozen=True)
class CompileConfig:
    """What to make.

    Attributes:
        precisions: out of ``PRECISIONS``; FP32 is always made, as the reference.
        targets: out of ``TARGETS``: which INT8 graphs and which engines.
        method: how ranges are found if no table is given.
        samples: how many images calibrate; ``None``: 512, or all there are.
        random_data: calibrate on noise instead of training images; the bundle says so for ever.
        excluded: names of nodes that INT8 leaves in FP32.
        max_drop: points of accuracy that a file may lose on the validation part; ``None`` for 0.5, or what chance
            explains. Where INT8 loses more, other methods are tried, then more nodes excluded.
        auto: keep of the precisions only the fastest that runs here and holds its accuracy, beside FP32.
        batch: images in a query, for which ``auto`` chooses.
        allow_fallback: take engines, and graphs on CPU backends, that compute in another precision than was asked for.
        seed: of the draw of those images.
        build: how TensorRT's engines are built.
    """

    precisions: tuple[Precision, ...] = DEFAULT_PRECISIONS
    targets: tuple[str, ...] = ("onnxruntime-cpu",)
    method: Method = field(default_factory=Method)
    samples: int | None = None
    random_data: bool = False
    excluded: tuple[str, ...] = ()
    max_drop: float | None = None
    auto: bool = False
    batch: int = 1
    allow_fallback: bool = False
    seed: int = 0
    build: BuildOptions = DEFAULTS

    def __post_init__(self) -> None:
        for found, known, what in (
            (self.precisions, PRECISIONS, "precision"),
            (self.targets, TARGETS, "target"),
        ):
            strange = [getattr(f, "value", f) for f in found if f not in known]
            if strange:
                names = ", ".join(getattr(k, "value", k) for k in known)
                way = "; engines in tf32 are --precision fp32 --tf32" if Precision.TF32 in strange else ""
                raise ConfigError(f"expected a {what} out of {names}, found {', '.join(strange)}{way}")
        for target in self.targets:
            if not computes(target, self.precisions):
                raise ConfigError(
                    f"expected a precision out of {', '.join(p.value for p in _COMPUTED[target])} for {target}, found "
                    f"{', '.join(p.value for p in self.precisions)}; add one, or leave {target} out"
                )
        if self.excluded and not set(CALIBRATED).intersection(self.precisions):
            raise ConfigError(
                f"expected a precision out of {', '.join(p.value for p in CALIBRATED)} beside --exclude, found "
                f"{', '.join(p.value for p in self.precisions)}; leave --exclude out"
            )
        if self.build != DEFAULTS and not set(FAMILIES).intersection(self.targets):
            raise ConfigError(
                f"expected a target out of {', '.join(FAMILIES)} beside how to build engines "
                f"({', '.join(self.build.changed)}), found {', '.join(self.targets)}; leave that out"
            )
        if not 1 <= self.batch <= _LARGEST_BATCH:
            raise ConfigError(f"expected a batch of 1 to {_LARGEST_BATCH} images, found {self.batch}")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise ConfigError(f"expected --max-drop of 0 to 100 points, found {self.max_drop}; give 0.1 if in doubt")
