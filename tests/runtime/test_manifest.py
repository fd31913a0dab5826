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
            "minmax on 8 images",
            {"onnxruntime-cpu": {"accuracy": 0.5, "n": 8}},
        ),
        Entry("report.json", "report", "3" * 64, 0),
    ),
    confidence=Confidence(0.5, 2.25, {"n": 9}, {"energy": 2.5, "thick": -9.0}),
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
        ({"kind": ["onnx"]}, "malformed"),
        ({"path": 3}, "a path is 3"),
        ({"size": "1234"}, "a size is '1234'"),
        ({"size": True}, "a size is True"),
        ({"size": -1}, "its size -1"),
        ({"sha256": "A" * 64}, "the sha256 of model.int8.onnx is"),
        ({"calibration": 2}, "the fingerprint of a calibration is 2"),
        ({"calibrated": None}, "calibrated is None"),
        ({"tools": {"onnx": 1.18}}, "the version of onnx is 1.18"),
        ({"backends": [1]}, "one of backends is 1"),
        ({"typed_for": "tensorrt"}, "the list typed_for is 'tensorrt'"),
        ({"kind": "engine"}, "no file of the kind engine is for onnxruntime-cpu, tensorrt"),
        ({"built_for": {"tensorrt": 10.3}}, "TensorRT's version is 10.3"),
        ({"built_for": {"compute_capabilities": "8.7"}}, "the list of compute capabilities is '8.7'"),
        ({"built_for": {"compute_capabilities": [8.7]}}, "a compute capability is 8.7"),
        ({"built_for": {"seconds": "9"}}, "the time of a build is '9'"),
        ({"built_for": {"seconds": -1}}, "the time of a build is -1 s"),
        ({"built_for": {"seconds": 10**400}}, "the time of a build is 1000"),
        ({"built_for": {"torch": 2.9}}, "torch that a file is built for is 2.9"),
        ({"built_for": {"instructions": "avx2"}}, "the list of instructions is 'avx2'"),
        ({"built_for": {"products": ["int8"]}}, "the table of products is"),
        ({"built_for": {"kernels": ["int8"]}}, "the table of kernels is"),
        ({"built_for": {"kernels": {"openvino": {"macs": {"int8": "4"}}}}}, "the number of int8 multiply-adds is '4'"),
        ({"built_for": {"products": {"int8": "4"}}}, "the number of int8 products is '4'"),
        ({"measured": {"openvino": 0.9}}, "what was measured on openvino is 0.9"),
        ({"measured": {"openvino": {"n": 8}}}, "the accuracy on openvino is None"),
        ({"measured": {"openvino": {"n": "8", "accuracy": 0.9}}}, "the n of openvino is '8'"),
        ({"measured": {"openvino": {"n": 8, "accuracy": "0.9"}}}, "the accuracy on openvino is '0.9'"),
        ({"measured": {"openvino": {"n": True, "accuracy": 0.9}}}, "the n of openvino is True"),
    ],
)
def test_a_malformed_entry_is_refused(change, message):
    data = copy.deepcopy(JSON)
    data["entries"][0].update(change)

    with pytest.raises(BundleError, match=message):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "the manifest has the unknown colour"),
        ({"schema": True}, "expected a manifest with a schema number"),
        ({"entries": {}}, "the list of entries is {}"),
        ({"entries": ["model.onnx"]}, "an entry is 'model.onnx'"),
        ({"preferred": {"path": 3}}, "the preferred path is 3"),
        ({"preferred": ["path"]}, r"preferred is \['path'\]"),
        ({"confidence": {"temperature": "1"}}, "the temperature is '1'"),
        ({"confidence": {"temperature": None}}, "the temperature is None"),
        ({"confidence": {"least_energy": True}}, "the least_energy is True"),
        ({"confidence": {"weights": [1.0]}}, r"the table of weights is \[1.0\]"),
        ({"confidence": {"weights": None}}, "the table of weights is None"),
        ({"confidence": {"weights": {"colour": 1.0}}}, "the table of weights has the unknown colour"),
        ({"confidence": {"weights": {"thick": "1"}}}, "the weight of thick is '1'"),
        ({"confidence": {"weights": {"thick": True}}}, "the weight of thick is True"),
        (
            {"confidence": {"weights": {"thick": 1e9}}},
            "must be 1e\\+06 at most, but is 1000000000.0",
        ),
        ({"confidence": {"measured": {"n": "9"}}}, "the n of confidence is '9'"),
        ({"confidence": {"measured": {"n": 1, "characters_turned_away": {"share": "0"}}}}, "a share is '0'"),
        ({"confidence": {"colour": 1}}, "confidence has the unknown colour"),
    ],
)
def test_a_malformed_manifest_is_refused(change, message):
    with pytest.raises(BundleError, match=message):
        Manifest.from_json({**JSON, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "ab"}, "the list of labels is 'ab'"),
        ({"labels": ["a", 1]}, "a label is 1"),
        ({"colour": "red"}, "the model has the unknown colour"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": [None, True, 4, 4]}]}, "a dimension is True"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": [None, 1, -4, 4]}]}, "a shape is"),
        ({"inputs": [{"name": 5, "dtype": "float32", "shape": [None, 1, 4, 4]}]}, "a name is 5"),
        (
            {"inputs": [{"name": "image", "dtype": "float32", "shape": [None, 1, 4, 4], "x": 0}]},
            "a tensor has the unknown",
        ),
    ],
)
def test_a_malformed_model_is_refused(change, message):
    with pytest.raises(BundleError, match=message):
        Manifest.from_json({**JSON, "model": {**JSON["model"], **change}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": "4"}, "height is '4'"),
        ({"height": 4.0}, "height is 4.0"),
        ({"height": 10**9, "width": 10**9}, "image size must be 1 to 4096 each way, but is 1000000000 x 1000000000"),
        ({"mean": "0"}, "mean is '0'"),
        ({"std": False}, "std is False"),
        ({"denoise": "median"}, "denoise is 'median'"),
        ({"denoise": ["median"] * 9}, "denoise must be 8 steps at most, but is 9"),
        ({"colour": 1}, "preprocessing has the unknown colour"),
    ],
)
def test_a_malformed_preprocessing_is_refused(change, message):
    model = {**JSON["model"], "preprocessing": {**JSON["model"]["preprocessing"], **change}}

    with pytest.raises(BundleError, match=message):
        Manifest.from_json({**JSON, "model": model})


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
