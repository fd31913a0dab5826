"""Verdicts on graphs whose faults are known: the quadrants classifier with other weights."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quillrt.compile.answers import Answers
from quillrt.compile.verify import verify
from quillrt.runtime import select
from quillrt.runtime.backends import open_session
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.errors import AccuracyError, BackendUnavailable, BundleError, ConfigError, SpecError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.manifest import Manifest
from quillrt.runtime.precision import Precision

LABELS = ("nw", "ne", "sw", "se")


def with_weight(quadrants, change):
    model = onnx.load_from_string(quadrants.onnx)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight).copy()), weight.name))
    return model.SerializeToString()


def images_of(each):
    """``each`` images of each quadrant, white on black: the reference recognizes all."""
    images = np.zeros((4, each, 8, 8), np.uint8)
    for k in range(4):
        images[k, :, 4 * (k // 2) :, 4 * (k % 2) :][:, :4, :4] = 255
    return ImageSet(images.reshape(-1, 8, 8), np.repeat(np.arange(4), each), LABELS)


@pytest.fixture
def judge(quadrants):
    """Return a function that verifies a bundle of the FP32 graph and one more file, and gives that file's verdict."""

    def judge(data, precision=Precision.INT8, backend="onnxruntime-cpu", each=4, **settings):
        files = [
            entry_for(quadrants.onnx, "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",)),
            entry_for(data, "other", "onnx", precision=precision, backends=(backend,)),
        ]
        manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))
        bundle = Bundle(Path("m.quill"), manifest, {entry.path: content for entry, content in files}, "")
        reference, found = verify(bundle, images_of(each), **settings)
        assert (reference.path, reference.fault, reference.accuracy) == ("fp32.onnx", "", 1.0)
        json.dumps(asdict(found), allow_nan=False)
        return found

    return judge


def test_an_fp32_file_may_differ_by_rounding_alone(judge, quadrants):
    def stronger(factor):
        return with_weight(quadrants, lambda weight: weight * np.float32(factor))

    assert judge(stronger(1.0001), Precision.FP32).fault == ""
    found = judge(stronger(1.01), Precision.FP32)  # the largest logit is 4: 0.04 is more than 4 thousandths
    assert found.fault == "a logit differs by 0.04, more than FP32 arithmetic explains"
    assert (found.max_difference, found.agreement, found.drop) == (pytest.approx(0.04, rel=1e-3), 1.0, 0.0)
    assert judge(stronger(1.01), Precision.FP16).fault == ""


def swapped(weight):
    """Answer se for sw and sw for se: half of the images are wrong."""
    return weight[:, [0, 1, 3, 2]]


@pytest.mark.parametrize(
    ("each", "p"),
    [(2, 2 / 2**4), (3, 2 / 2**6)],  # 4 or 6 images, all of which the reference alone has right
)
def test_a_drop_is_a_fault_where_chance_does_not_explain_it(judge, quadrants, each, p):
    found = judge(with_weight(quadrants, swapped), each=each)

    assert (found.n, found.accuracy, found.agreement, found.drop) == (4 * each, 0.5, 0.5, 50.0)
    assert found.p == pytest.approx(p)
    assert bool(found.fault) == (p < 0.05)


def test_the_drop_that_is_allowed_is_asked_for(judge, quadrants):
    graph = with_weight(quadrants, swapped)

    assert judge(graph, max_drop=49.9).fault == "it loses 50.00 points (p = 0.0078), more than 49.9 allowed"
    assert judge(graph, max_drop=50).fault == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_a_fault(judge, quadrants, value):
    found = judge(with_weight(quadrants, lambda weight: np.full_like(weight, value)))

    assert found.fault.startswith("expected finite logits, found NaN or infinite ones")
    assert (found.n, found.reason) == (16, "")


def test_a_reference_that_is_known_does_not_run_again(judge, quadrants, monkeypatch):
    graph = with_weight(quadrants, swapped)
    anew = judge(graph)
    logits = Answers(onnx.load_from_string(quadrants.onnx), quadrants.spec, images_of(4)).reference
    opened = []
    monkeypatch.setattr(
        "quillrt.compile.verify.open_session", lambda *each: opened.append(each[1]) or open_session(*each)
    )
    assert judge(graph, reference=logits) == anew
    assert opened == [graph]


def test_a_reference_that_answers_nan_is_an_error(quadrants):
    data = with_weight(quadrants, lambda weight: weight * np.nan)
    entry, _ = entry_for(data, "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",))

    with pytest.raises(AccuracyError, match="expected finite logits"):
        verify(Bundle(Path("m"), Manifest(quadrants.spec, {}, (entry,)), {entry.path: data}, ""), images_of(1))


def test_what_the_reference_backend_cannot_open_is_at_fault_and_the_others_are_judged(judge):
    found = judge(b"no model")

    assert (found.n, found.reason) == (16, "")
    assert found.fault.startswith("onnxruntime-cpu cannot load the model")


def test_what_another_backend_refuses_is_its_reason(judge):
    pytest.importorskip("openvino")
    found = judge(b"no model", backend="openvino")

    assert (found.n, found.fault) == (0, "")
    assert found.reason.startswith("openvino cannot load the model")


def test_each_engine_has_its_own_reason(monkeypatch, quadrants):
    monkeypatch.setattr(select, "why_unavailable", lambda backend, device: None)
    monkeypatch.setattr(select, "load", lambda family: SimpleNamespace(version="10.3.0"))
    files = [entry_for(quadrants.onnx, "fp32.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",))]
    for version in ("9.8", "9.9"):
        facts = {"precision": Precision.INT8, "backends": ("tensorrt",), "built_for": {"tensorrt": version}}
        files.append(entry_for(b"engine", version, "engine", **facts))
    manifest = Manifest(quadrants.spec, {}, tuple(entry for entry, _ in files))

    found = verify(Bundle(Path("m"), manifest, {entry.path: data for entry, data in files}, ""), images_of(1))

    assert [v.reason[:28] for v in found] == ["", "9.8 is for tensorrt 9.8, thi", "9.9 is for tensorrt 9.9, thi"]
    assert [v.n for v in found] == [4, 0, 0]


def test_what_turns_out_unavailable_when_opened_is_a_reason(monkeypatch, judge, quadrants):
    def refuses(*arguments):
        raise BackendUnavailable("no memory")

    pytest.importorskip("openvino")
    monkeypatch.setattr("quillrt.runtime.ov.OpenVINOSession.__init__", refuses)

    found = judge(quadrants.onnx, backend="openvino")

    assert (found.n, found.reason, found.fault) == (0, "no memory", "")


def test_without_an_fp32_graph_or_the_models_classes_there_is_nothing_to_compare(quadrants):
    empty = Bundle(Path("m.quill"), Manifest(quadrants.spec, {}, ()), {}, "")

    with pytest.raises(BundleError, match=r"expected an FP32 ONNX graph in m\.quill, found none"):
        verify(empty, images_of(1))
    with pytest.raises(SpecError, match="expected a data set with the model's 4 classes"):
        verify(empty, ImageSet(images_of(1).images, images_of(1).labels, LABELS[::-1]))


def test_the_command_ends_with_1_and_names_the_file_at_fault(quillrt, quadrants, draw, tmp_path):
    for k, label in enumerate(LABELS):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(10):
            draw(tmp_path / "images" / label / f"{i}.png", k)
    files = [
        entry_for(data, f"{precision.value}.onnx", "onnx", precision=precision, backends=("onnxruntime-cpu",))
        for data, precision in (
            (quadrants.onnx, Precision.FP32),
            (with_weight(quadrants, lambda weight: weight[:, [1, 2, 3, 0]]), Precision.INT8),
        )
    ]
    write_bundle(tmp_path / "m.quill", quadrants.spec, {"kind": "onnx"}, files)
    command = ("verify", tmp_path / "m.quill", "--dataset", f"folder:{tmp_path / 'images'}")

    code, out, err = quillrt(*command, "--json")

    fp32, int8 = json.loads(out)
    assert code == 1
    assert (fp32["fault"], int8["accuracy"], int8["drop"]) == ("", 0.0, 100.0)
    assert err.startswith("quillrt: error: expected every file to keep the FP32 graph's accuracy, but int8.onnx on")
    assert err.count("\n") == 1
    assert quillrt(*command, "--max-drop", 100)[0] == 0


@pytest.mark.parametrize("max_drop", [float("nan"), -0.1, 101.0])
def test_a_limit_that_would_pass_everything_is_refused(quadrants_bundle, max_drop):
    with pytest.raises(ConfigError, match="expected --max-drop of 0 to 100"):
        verify(Bundle.open(quadrants_bundle), images_of(2), max_drop)
