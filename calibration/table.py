"""The portable calibration table: the range of every activation, and all that those ranges depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quillrt.runtime.errors import CalibrationError, QuillError
from quillrt.runtime.files import write_text
from quillrt.runtime.preprocessing import Preprocessing

SCHEMA = 1


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges of a model's activations on real samples.

    Attributes:
        method: ``minmax``, ``entropy`` or ``percentile``.
        percentile: the share of values kept, in percent, for ``percentile``; else ``None``.
        ranges: tensor name to its lowest and highest value.
        samples: hash of each image, in the order they were fed.
        dataset: where the images come from.
        model_sha256: of the FP32 ONNX graph the ranges belong to.
        preprocessing: how the images became input.
        tools: name and version of what collected the ranges.
    """

    method: str
    percentile: float | None
    ranges: Mapping[str, tuple[float, float]]
    samples: tuple[str, ...]
    dataset: str
    model_sha256: str
    preprocessing: Preprocessing
    tools: Mapping[str, str]

    def to_json(self) -> str:
        """Return the table as indented JSON, the same bytes for equal tables."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, allow_nan=False) + "\n"

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
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CalibrationError(
                f"expected a calibration table at {path}, but {error.strerror}; quillrt calibrate makes one"
            ) from error
        except ValueError as error:
            raise CalibrationError(f"expected a calibration table in JSON, but {path}: {error}") from error
        return cls._from_json(data, path)

    @classmethod
    def _from_json(cls, data: Any, path: Path) -> CalibrationTable:
        try:
            schema = data.pop("schema")
            if schema != SCHEMA:
                raise CalibrationError(f"expected schema {SCHEMA}, found {schema}; calibrate again with this quillrt")
            ranges = {name: (float(low), float(high)) for name, (low, high) in data["ranges"].items()}
            fields = {**data, "ranges": ranges, "samples": tuple(data["samples"])}
            table = cls(**{**fields, "preprocessing": Preprocessing.from_json(data["preprocessing"])})
        except (KeyError, TypeError, ValueError, AttributeError, QuillError) as error:
            raise CalibrationError(f"expected a calibration table, but {path} is malformed: {error}") from error
        for name, (low, high) in table.ranges.items():
            if not (low <= high and abs(low) < float("inf") and abs(high) < float("inf")):
                raise CalibrationError(
                    f"{path}: the range of {name} must be finite and ordered, but is {low} to {high}"
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
