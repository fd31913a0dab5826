"""The table as a file, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from quillrt.calibration.table import CalibrationTable, Observed
from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.preprocessing import Preprocessing

TABLE = CalibrationTable(
    method="percentile",
    percentile=99.9,
    ranges={"image": (-0.5, 2.25), "relu1": (0.0, 3.0)},
    observed={"image": Observed(-0.5, 3.0, (5, 0, 2)), "relu1": Observed(0.0, 3.5, (1, 1, 1))},
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


def test_ranges_that_another_tool_found_come_without_what_was_seen(tmp_path) -> None:
    table = replace(TABLE, method="imported", observed={}, samples=())
    table.save(tmp_path / "table.json")
    assert CalibrationTable.load(tmp_path / "table.json") == table


def test_people_can_read_it(tmp_path) -> None:
    TABLE.save(tmp_path / "table.json")
    text = (tmp_path / "table.json").read_text()
    data = json.loads(text)
    assert data["tensors"]["relu1"] == {"range": [0.0, 3.0], "lowest": 0.0, "highest": 3.5, "counts": [1, 1, 1]}
    assert sum("relu1" in line for line in text.splitlines()) == 1
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
        ({"schema": 1}, "expected schema 2, found 1"),
        ({"tensors": {"image": {"range": [2.0, 1.0]}}}, "ordered and within"),
        ({"tensors": {"image": {"range": [0.0, 1e300]}}}, "ordered and within"),
        ({"tensors": {"image": {"range": [0.0, float("nan")]}}}, "finite numbers, found NaN"),
        ({"method": "voodoo"}, "expected a method out of"),
        ({"tensors": {"image": {"range": [0, 1], "lowest": 0, "highest": 1, "counts": [-3]}}}, "whole counts"),
        ({"tensors": {"image": {"range": ["0", "1"]}}}, "malformed"),
        ({"tensors": {"image": {"range": [0, 1], "lowest": True, "highest": 1, "counts": [1]}}}, "finite numbers"),
        ({"tensors": {"image": {"range": [0, 1], "lowest": 0, "highest": 1, "counts": [1.5]}}}, "malformed"),
        ({"samples": [1]}, "malformed"),
        ({"method": 1}, "malformed"),
        ({"tensors": {"image": {"range": [0.0]}}}, "malformed"),
        ({"tensors": 3}, "malformed"),
        ({"tensors": {"image": {"range": [0.0, 1.0], "counts": [1]}}}, "malformed"),
        ({"preprocessing": {"std": 0}}, "malformed"),
        ({"surprise": 1}, "malformed"),
        ({"samples": "abc"}, "malformed"),
        ({"tools": 5}, "malformed"),
        ({"percentile": "99"}, "finite numbers"),
        ({"percentile": float("nan")}, "finite numbers"),
        (
            {"tensors": {"image": {"range": [0.0, 1.0], "lowest": float("nan"), "highest": 1, "counts": [1]}}},
            "finite numbers",
        ),
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
