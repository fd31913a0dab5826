import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quillrt.runtime.confidence import Confidence
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
            {"tensorrt": "10.3.0", "compute_capabilities": ["8.7"], "products": {"int8": 4}},
            "2" * 64,
            {"onnxruntime-cpu": {"accuracy": 0.5, "n": 8}},
        ),
        Entry("report.json", "report", "3" * 64, 0),
    ),
    confidence=Confidence(0.5, 2.25, {"n": 9}),
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
        ({"kind": "song"}, "kind out of onnx, engine, program, calibration, report, found 'song'"),
        ({"precision": "fp12"}, "found 'fp12'"),
        ({"colour": "red"}, "colour"),
        ({"backends": None}, "malformed"),
        ({"tools": ["onnx"]}, "malformed"),
        ({"built_for": {"tensorrt": 10.3}}, "TensorRT's version is 10.3"),
        ({"built_for": {"compute_capabilities": "8.7"}}, "the list of compute capabilities is '8.7'"),
        ({"built_for": {"compute_capabilities": [8.7]}}, "a compute capability is 8.7"),
        ({"built_for": {"torch": 2.9}}, "torch that a file is built for is 2.9"),
        ({"built_for": {"instructions": "avx2"}}, "the list of instructions is 'avx2'"),
        ({"built_for": {"products": ["int8"]}}, "the table of products is"),
        ({"built_for": {"kernels": ["int8"]}}, "the table of kernels is"),
        ({"built_for": {"kernels": {"openvino": {"macs": {"int8": "4"}}}}}, "the number of int8 multiply-adds is '4'"),
        ({"built_for": {"products": {"int8": "4"}}}, "the number of int8 products is '4'"),
        ({"measured": {"openvino": 0.9}}, "what was measured on openvino is 0.9"),
        ({"measured": {"openvino": {"n": 8}}}, "the accuracy on openvino is None"),
        ({"measured": {"openvino": {"n": "8", "accuracy": 0.9}}}, "the n of openvino is '8'"),
    ],
)
def test_a_malformed_entry_is_refused(change, message):
    data = copy.deepcopy(JSON)
    data["entries"][0].update(change)

    with pytest.raises(BundleError, match=message):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["onnx"], "source is"),
        ({"training": None}, "the record of training is None"),
        ({"training": ["mnist"]}, "the record of training is"),
        ({"training": {"dataset": 3}}, "the data set of training is 3"),
    ],
)
def test_a_malformed_source_is_refused(source, message):
    with pytest.raises(BundleError, match=message):
        Manifest.from_json({**JSON, "source": source})


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
        assert all(isinstance(name, str) for name in entry.built_for.get("compute_capabilities", []))
        assert sum(entry.built_for.get("products", {}).values()) >= -1
        assert all(m["accuracy"] + m["n"] < 1e4 for m in entry.measured.values())
    assert all(isinstance(label, str) for label in manifest.model.labels)
    manifest.training.get("dataset")
