"""Foreign tables: byte by byte as their makers define them, and read by onnxruntime's own classes."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

from quillrt.calibration.collect import fingerprint
from quillrt.calibration.formats import export, imported, to_onnxruntime, to_tensorrt_cache
from quillrt.calibration.table import CalibrationTable
from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec

SPEC = character_spec(("a", "b"), Preprocessing(height=4, width=4))
RANGES = {"image": (-0.5, 1.27), "logits": (-25.4, 3.0)}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["image", "w"], ["logits"])
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 16])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])]
    weight = numpy_helper.from_array(np.ones((16, 2), np.float32), "w")
    return helper.make_model(helper.make_graph([node], "g", inputs, outputs, [weight]))


@pytest.fixture
def table(model) -> CalibrationTable:
    return CalibrationTable(
        *("minmax", None, RANGES, {}, ("00",), "digits", fingerprint(model), SPEC.preprocessing, {"quillrt": "1"})
    )


def test_a_tensorrt_cache_holds_the_bits_of_each_scale() -> None:
    """1.27 / 127 is 0.01, in float32 0x3c23d70a; 25.4 / 127 is 0.2, 0x3e4ccccd."""
    text = to_tensorrt_cache(RANGES).decode()
    assert text == "TRT-100300-EntropyCalibration2\nimage: 3c23d70a\nlogits: 3e4ccccd\n"


def test_onnxruntime_reads_its_table() -> None:
    found = TrtTable.GetRootAsTrtTable(to_onnxruntime(RANGES), 0)
    pairs = {found.Dict(i).Key(): float(found.Dict(i).Value()) for i in range(found.DictLength())}
    assert pairs == {b"image": 1.27, b"logits": 25.4}


@pytest.mark.parametrize("ending", [".cache", ".flatbuffers"])
def test_there_and_back_ranges_are_symmetric(tmp_path, model, table, ending: str) -> None:
    path = tmp_path / f"table{ending}"
    export(table, path)
    found = imported(path, model, SPEC)
    assert (found.method, found.samples, found.observed) == ("imported", (), {})
    assert found.origin == f"imported from table{ending}"
    for name, (low, high) in found.ranges.items():
        size = max(-RANGES[name][0], RANGES[name][1])
        assert (low, high) == pytest.approx((-size, size), rel=1e-6)
    found.check_fits(fingerprint(model), SPEC.preprocessing)


def test_names_with_colons_and_spaces(tmp_path, model, table) -> None:
    odd = {"a: b/c: 1": (-1.0, 1.0), **RANGES}
    path = tmp_path / "odd.cache"
    export(replace(table, ranges=odd), path)
    assert set(imported(path, model, SPEC).ranges) == set(RANGES)


def test_scales_of_tensors_elsewhere_are_left_out_and_lacking_ones_are_named(tmp_path, model, table) -> None:
    path = tmp_path / "part.cache"
    export(replace(table, ranges={"image": (0.0, 1.0), "other": (0.0, 1.0)}), path)
    with pytest.raises(CalibrationError, match="lacks logits; tensors must have"):
        imported(path, model, SPEC)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.cache", b"", "first line"),
        ("a.cache", b"hello\nimage: 3c23d70a\n", "first line is 'hello'"),
        ("a.cache", b"TRT-8601-MinMaxCalibration\nimage=3\n", "'image=3'"),
        ("a.cache", b"\xff\xfe", "malformed"),
        ("a.cache", b"TRT-8601-X\nimage: " + struct.pack(">f", float("nan")).hex().encode(), "finite and positive"),
        ("a.flatbuffers", b"", "malformed"),
        ("a.flatbuffers", b"\xff" * 64, "malformed"),
        ("a.txt", b"", r"ending in \.cache"),
    ],
)
def test_files_that_are_none(tmp_path, model, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CalibrationError, match=message):
        imported(tmp_path / name, model, SPEC)


def test_no_file(tmp_path, model) -> None:
    with pytest.raises(CalibrationError, match=r"none\.cache, but .*check the path"):
        imported(tmp_path / "none.cache", model, SPEC)
