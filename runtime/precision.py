"""Number formats a model can compute in."""

from __future__ import annotations

from enum import Enum

from .errors import ConfigError


class Precision(str, Enum):
    """Number format of a model's matrix products and convolutions; it lives in the ONNX graph."""

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"
    MIXED = "mixed"  # INT8 where the graph is quantized, FP16 elsewhere

    @classmethod
    def parse(cls, name: str) -> Precision:
        """Return the precision called ``name``.

        Raises:
            ConfigError: no precision has this name.
        """
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(p.value for p in cls)
            raise ConfigError(f"expected a precision out of {known}, found {name!r}") from None
