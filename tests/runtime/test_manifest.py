import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.errors import BundleError
from quillrt.runtime.manifest import Entry, Manifest
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec

MANIFEST = Manifest(
    character_spec(("a", "b"), Preprocessing(4, 4)),
    {"kind": "onnx", "sha256": "0" * 64},
    (
        Entry(
            "model.int8.onnx",
            "onnx",
            "1" * 64,
            1234,
            Precision.INT8,
            ("onnxruntime-cpu",),
            ("tensorrt",),
            {"onnx": "1.18"},
            {"compute_capabilities": ["8.7"]},
            "2" * 64,
            {"onnxruntime-cpu": {"accuracy": 0.5, "n": 8}},
        ),
        Entry("report.json", "report", "3" * 64, 0),
    ),
)
JSON = json.loads(json.dumps(MANIFEST.to_json()))


def places(value, path=()):
    """Yield the path of every value inside a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def test_a_manifest_survives_json():
    assert Manifest.from_json(JSON) == MANIFEST


def test_the_schema_comes_first():
    assert next(iter(JSON.items())) == ("schema", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "song"}, "kind out of onnx, engine, calibration, report, found 'song'"),
        ({"precision": "fp12"}, "found 'fp12'"),
        ({"colour": "red"}, "colour"),
        ({"backends": None}, "malformed"),
        ({"tools": ["onnx"]}, "malformed"),
    ],
)
def test_a_malformed_entry_is_refused(change, message):
    data = copy.deepcopy(JSON)
    data["entries"][0].update(change)

    with pytest.raises(BundleError, match=message):
        Manifest.from_json(data)


@given(
    st.sampled_from([place for place in places(JSON) if place]),
    st.sampled_from(["nothing", None, True, -1, 1.5, "", "x", [], [5], {}, {"a": 1}]),
)
def test_whatever_stands_in_a_field_is_read_or_refused(place, value):
    data = copy.deepcopy(JSON)
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    if value == "nothing":
        del holder[place[-1]]
    else:
        holder[place[-1]] = value

    try:
        manifest = Manifest.from_json(data)
    except BundleError:
        return
    for entry in manifest.entries:  # what the rest of the program relies on
        assert isinstance(entry.path, str)
        assert isinstance(entry.sha256, str)
        assert all(isinstance(name, str) for name in (*entry.backends, *entry.typed_for))
        assert entry.built_for.get("compute_capabilities") is not entry.built_for
    assert all(isinstance(label, str) for label in manifest.model.labels)
    manifest.source.get("training")
