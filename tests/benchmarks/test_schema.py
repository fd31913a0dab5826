"""The published form of a result: results have it, the example has it, and what is wrong does not."""

import json
from copy import deepcopy
from importlib.resources import files
from pathlib import Path

import pytest

from quillrt.benchmarks.results import SCHEMA_VERSION, VERDICTS

jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema, out of the extra dev")
SCHEMA = files("quillrt.benchmarks") / "result.schema.json"
EXAMPLE = Path(__file__).parents[2] / "benchmarks" / "results" / "full-quillnet.json"


@pytest.fixture(scope="module")
def schema():
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def example():
    return json.loads(EXAMPLE.read_text(encoding="utf-8"))


def test_the_schema_is_one(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert schema["$defs"]["row"]["properties"]["verdict"]["enum"] == list(VERDICTS)


def test_the_example_has_its_form(schema, example):
    jsonschema.validate(example, schema)
    assert {row["verdict"] for row in example["rows"]} >= {"baseline", "not run"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda result: result.update(schema_version=1),
        lambda result: result["rows"][0].pop("verdict"),
        lambda result: result["rows"][0].update(verdict="fastest"),
        lambda result: result["rows"][0]["measured"]["rounds"][0].update(latencies_ns=[-1]),
        lambda result: result["rows"][0]["measured"]["percentiles_ms"].update({"p42": 1.0}),
        lambda result: result["environment"].update(host="somebody's"),
    ],
)
def test_what_is_wrong_is_refused(schema, example, spoil):
    spoilt = deepcopy(example)
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, schema)
