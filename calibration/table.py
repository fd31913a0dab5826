"""The portable calibration table: the range of every activation, and all that those ranges depend on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quillrt.runtime.errors import CalibrationError, QuillError
from quillrt.runtime.files import read_bounded, write_text
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.strict_json import MOST_BYTES, read_json
from quillrt.runtime.typed import NUMBER, checked, each_checked

from .methods import METHODS

SCHEMA = 2
IMPORTED = "imported"
RANDOM_DATA = "random data"

Range = tuple[float, float]
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Observed:
    """What an activation was seen to be.

    Attributes:
        lowest: of all values.
        highest: of all values.
        counts: of values in equal bins from ``lowest`` to ``highest``.
    """

    lowest: float
    highest: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges of a model's activations on real samples.

    Attributes:
        method: one of ``METHODS``, or ``imported`` for ranges that another tool found.
        percentile: the share of values kept, in percent, for ``percentile``; else ``None``.
        ranges: tensor name to the lowest and the highest value that are not clipped.
        observed: tensor name to the values it had; empty for imported ranges.
        samples: hash of each image, in the order they were fed.
        dataset: where the images come from, ``RANDOM_DATA`` for noise.
        model_sha256: of the FP32 ONNX graph the ranges belong to.
        preprocessing: how the images became input.
        tools: name and version of what collected the ranges.
        trained: names of the tensors whose ranges quantization-aware training held, rather than ``method`` found.
    """

    method: str
    percentile: float | None
    ranges: Mapping[str, Range]
    observed: Mapping[str, Observed]
    samples: tuple[str, ...]
    dataset: str
    model_sha256: str
    preprocessing: Preprocessing
    tools: Mapping[str, str]
    trained: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the table as JSON, a line for each tensor; the same bytes for equal tables."""
        data = asdict(self)
        ranges, observed = data.pop("ranges"), data.pop("observed")
        head = "".join(f'  "{name}": {_compact(value)},\n' for name, value in {"schema": SCHEMA, **data}.items())
        lines = [
            f"    {json.dumps(name)}: {_compact({'range': ranges[name], **observed.get(name, {})})}" for name in ranges
        ]
        return f'{{\n{head}  "tensors": {{\n' + ",\n".join(lines) + "\n  }\n}\n"

    @property
    def origin(self) -> str:
        """How the ranges were found, in a few words."""
        if self.method == IMPORTED:
            return f"imported from {self.dataset}"
        share = "" if self.percentile is None else f" {self.percentile:.10g}"
        trained = f", {len(self.trained)} ranges as trained" if self.trained else ""
        return f"{self.method}{share} on {len(self.samples)} images of {self.dataset}{trained}"

    @property
    def fingerprint(self) -> str:
        """The sha256 of the table's JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> CalibrationTable:
        """Read a table.

        Raises:
            CalibrationError: no file, no JSON, a newer schema, a field missing, or a range that is none.
        """
        try:
            data = read_json(read_bounded(path, MOST_BYTES))
        except OSError as error:
            raise CalibrationError(
                f"expected a calibration table at {path}, but {error.strerror}; quillrt calibrate makes one"
            ) from error
        except ValueError as error:
            raise CalibrationError(
                f"expected a calibration table in JSON, but {path}: {error}; get it again"
            ) from error
        return cls._from_json(data, path)

    @classmethod
    def _from_json(cls, data: Any, path: Path) -> CalibrationTable:
        try:
            schema = data.pop("schema")
            if schema != SCHEMA:
                raise CalibrationError(f"expected schema {SCHEMA}, found {schema}, of another quillrt")
            tensors = data.pop("tensors")
            table = cls(
                **{
                    **data,
                    "ranges": {name: _pair(tensor.pop("range")) for name, tensor in tensors.items()},
                    "observed": {
                        name: Observed(**{**tensor, "counts": each_checked(tensor["counts"], int, "counts", "a count")})
                        for name, tensor in tensors.items()
                        if tensor
                    },
                    "samples": each_checked(data["samples"], str, "samples", "a sample"),
                    "trained": each_checked(data.get("trained", []), str, "trained", "a name"),
                    "tools": {name: checked(version, str, name) for name, version in data["tools"].items()},
                    **{name: checked(data[name], str, name) for name in ("method", "dataset", "model_sha256")},
                    "preprocessing": Preprocessing.from_json(data["preprocessing"]),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError, QuillError) as error:
            # Python's own words on a value of another type tell the reader of JSON nothing.
            what = str(error) if isinstance(error, QuillError) else "a field is missing, unknown or of another type"
            raise CalibrationError(
                f"expected a calibration table, but {path} is malformed: {what}; calibrate again"
            ) from error
        if table.method not in (*METHODS, IMPORTED):
            raise CalibrationError(
                f"{path}: expected a method out of {', '.join((*METHODS, IMPORTED))}, found {table.method!r}; "
                "calibrate again"
            )
        numbers = [each for seen in table.observed.values() for each in (seen.lowest, seen.highest)]
        if table.percentile is not None:
            numbers.append(table.percentile)
        counts = [count for seen in table.observed.values() for count in seen.counts]
        if not all(type(each) in NUMBER and math.isfinite(each) for each in numbers) or min(counts, default=0) < 0:
            raise CalibrationError(
                f"{path}: expected finite numbers as percentile and of what was observed, and whole counts of 0 or "
                "more; calibrate again"
            )
        for name, (low, high) in table.ranges.items():
            if not -_LARGEST <= low <= high <= _LARGEST:
                raise CalibrationError(
                    f"{path}: the range of {name} must be ordered and within float32's, but is {low} to {high}; "
                    "calibrate again"
                )
        return table

    def check_fits(self, model_sha256: str, preprocessing: Preprocessing) -> None:
        """Raise unless the table belongs to this model and preprocessing.

        Raises:
            CalibrationError: says which of the two differs.
        """
        if self.model_sha256 != model_sha256:
            raise CalibrationError(
                f"expected a calibration table of this model (sha256 {model_sha256[:12]}…), found one of "
                f"{self.model_sha256[:12]}…; calibrate again, ranges of other weights do not fit"
            )
        if self.preprocessing != preprocessing:
            raise CalibrationError(
                f"expected a calibration table made with {preprocessing}, found one made with "
                f"{self.preprocessing}; calibrate again"
            )


def _compact(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _pair(values: Any) -> Range:
    low, high = each_checked(values, NUMBER, "a range", "an end of a range")
    return float(low), float(high)
