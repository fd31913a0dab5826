"""What goes into a model and what comes out: tensors, labels, preprocessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import SpecError
from .preprocessing import Preprocessing
from .typed import checked, each_checked, only

_SUMMED_AT_ONCE = 10_000  # numbers; to more, OpenBLAS may put several threads


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of a tensor; ``None`` marks a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def check(self, array: NDArray[Any]) -> None:
        """Raise unless ``array`` has this dtype and shape and holds finite numbers only.

        Raises:
            SpecError: dtype, rank or a dimension differs, the batch is empty, or a value is NaN or infinite.
        """
        if not self._takes(array.shape) or array.dtype != self.dtype or array.size == 0:
            raise SpecError(
                f"input {self.name!r} must be {self.dtype} of shape {self.text()} and not empty, "
                f"but got {array.dtype} of shape {array.shape}"
            )
        # This stands before every query. A sum of squares is finite only if all numbers are, and takes a third of the
        # time of asking each; where it is not, huge numbers may have overflown.
        if (array.size > _SUMMED_AT_ONCE or not math.isfinite(np.vdot(array, array))) and not np.isfinite(array).all():
            raise SpecError(f"input {self.name!r} must be finite, but holds NaN or infinite values")

    def _takes(self, shape: tuple[int, ...]) -> bool:
        if shape[1:] == self.shape[1:] and shape and self.shape:  # the batch alone may be dynamic
            return self.shape[0] in (None, shape[0])
        return len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape, shape, strict=True)
        )

    def text(self) -> str:
        """Return the shape as people write it, such as ``(N, 1, 28, 28)``."""
        return "(" + ", ".join("N" if d is None else str(d) for d in self.shape) + ")"


@dataclass(frozen=True)
class ModelSpec:
    """A classifier seen from outside: one image input (N, C, H, W), one output of logits (N, K), K labels."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise SpecError(
                f"a classifier must have one input and one output, "
                f"but has {len(self.inputs)} inputs and {len(self.outputs)} outputs"
            )
        if strange := [label for label in self.labels if not label.isprintable()]:
            raise SpecError(f"labels must be text that can be printed, but one is {strange[0]!a}")
        image, logits = self.input.shape, self.output.shape
        if self.input.dtype != "float32" or len(image) != 4 or image[1] not in (1, 3):
            raise SpecError(
                f"the input must be float32 of shape (N, 1 or 3, H, W), but is {self.input.dtype} {self.input.text()}"
            )
        if image[2:] != (self.preprocessing.height, self.preprocessing.width):
            raise SpecError(
                f"the input is {self.input.text()}, but preprocessing makes images of "
                f"{self.preprocessing.height} x {self.preprocessing.width}"
            )
        if len(logits) != 2 or logits[1] != len(self.labels):
            raise SpecError(
                f"the output must be (N, {len(self.labels)}) for {len(self.labels)} labels, but is {self.output.text()}"
            )

    @property
    def input(self) -> TensorSpec:
        """The image input, float32 (N, C, H, W)."""
        return self.inputs[0]

    @property
    def output(self) -> TensorSpec:
        """The logits, float32 (N, K)."""
        return self.outputs[0]

    @property
    def channels(self) -> int:
        """C of the input: 1, or 3 for a network that wants the grey image three times."""
        channels = self.input.shape[1]
        assert channels is not None  # noqa: S101 - __post_init__ saw 1 or 3
        return channels

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Return the spec that ``to_json`` wrote.

        Raises:
            SpecError: a field is missing or of the wrong type.
        """
        try:
            only(data, ("inputs", "outputs", "labels", "preprocessing"), "the model")
            return cls(
                **{side: tuple(map(_tensor, checked(data[side], list, side))) for side in ("inputs", "outputs")},
                labels=each_checked(data["labels"], str, "the list of labels", "a label"),
                preprocessing=Preprocessing.from_json(data["preprocessing"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SpecError(f"expected a model spec, found one that lacks or misspells {error}") from error


def _tensor(data: Any) -> TensorSpec:
    """Return the tensor that ``dataclasses.asdict`` and JSON made plain.

    Raises:
        KeyError, TypeError: a field is missing, unknown or of the wrong type.
    """
    only(data, ("name", "dtype", "shape"), "a tensor")
    shape = each_checked(data["shape"], (int, NoneType), "a shape", "a dimension")
    if any(size is not None and size < 1 for size in shape):
        raise TypeError(f"a shape is {shape}")
    return TensorSpec(checked(data["name"], str, "a name"), checked(data["dtype"], str, "a dtype"), shape)


def character_spec(labels: tuple[str, ...], preprocessing: Preprocessing) -> ModelSpec:
    """Return the spec of a network of ours: ``image`` float32 (N, 1, H, W) to ``logits`` float32 (N, K)."""
    return ModelSpec(
        inputs=(TensorSpec("image", "float32", (None, 1, preprocessing.height, preprocessing.width)),),
        outputs=(TensorSpec("logits", "float32", (None, len(labels))),),
        labels=labels,
        preprocessing=preprocessing,
    )
