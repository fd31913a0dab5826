"""The table as a file, and what it refuses."""

from __future__ import annotations

import json

import pytest

from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.preprocessing import Preprocessing

TABLE = CalibrationTable(
    method="percentile",
    percentile=99.9,
    ranges={"image": (-0.5, 2.25), "relu1": (0.0, 3.0)},
    samples=("0123456789abcdef",),
    dataset="digits",
    model_sha256="ab" * 32,
    preprocessing=Preprocessing(mean=0.1, std=0.3),
    tools={"quillrt": "0.1.0"},
)


def test_round_trip(tmp_path) -> None:
    TABLE.save(tmp_path / "table.json")
    loaded = CalibrationTable.load(tmp_path / "table.json")
    assert loaded == TABLE
    assert loaded.fingerprint == TABLE.fingerprint


def test_people_can_read_it(tmp_path) -> None:
    TABLE.save(tmp_path / "table.json")
    data = json.loads((tmp_path / "table.json").read_text())
    assert data["ranges"]["relu1"] == [0.0, 3.0]
    assert (data["method"], data["percentile"]) == ("percentile", 99.9)


def test_a_table_from_before_there_was_denoising_is_read(tmp_path) -> None:
    data = json.loads(TABLE.to_json())
    del data["preprocessing"]["denoise"]
    (tmp_path / "table.json").write_text(json.dumps(data))
    assert CalibrationTable.load(tmp_path / "table.json") == TABLE


def test_it_fits_its_own_model_only() -> None:
    TABLE.check_fits("ab" * 32, Preprocessing(mean=0.1, std=0.3))
    with pytest.raises(CalibrationError, match="table of this model"):
        TABLE.check_fits("cd" * 32, Preprocessing(mean=0.1, std=0.3))
    with pytest.raises(CalibrationError, match=r"mean=0\.2"):
        TABLE.check_fits("ab" * 32, Preprocessing(mean=0.2, std=0.3))
    with pytest.raises(CalibrationError, match=r"'median'"):
        TABLE.check_fits("ab" * 32, Preprocessing(mean=0.1, std=0.3, denoise=("median",)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "expected schema 1, found 2"),
        ({"ranges": {"image": [2.0, 1.0]}}, "finite and ordered"),
        ({"ranges": {"image": [0.0, float("nan")]}}, "finite and ordered"),
        ({"ranges": {"image": [0.0]}}, "malformed"),
        ({"ranges": 3}, "malformed"),
        ({"preprocessing": {"std": 0}}, "malformed"),
        ({"surprise": 1}, "malformed"),
    ],
)
def test_damaged_tables(tmp_path, change: dict, message: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**json.loads(TABLE.to_json()), **change}))
    with pytest.raises(CalibrationError, match=message):
        CalibrationTable.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_no_table(tmp_path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(CalibrationError, match="expected a calibration table"):
        CalibrationTable.load(tmp_path / "table.json")


def test_no_file(tmp_path) -> None:
    with pytest.raises(CalibrationError, match="quillrt calibrate makes one"):
        CalibrationTable.load(tmp_path / "table.json")
