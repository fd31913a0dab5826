"""`evaluate`: what it tells of one model, and of two on the same images."""

import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.stats import binomtest

from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec


@pytest.fixture
def write_classifier(tmp_path):
    """Write a bundle whose logits are the means of quadrants of an image of ``side`` pixels: ``reads`` says which one
    each label goes by."""

    def write_classifier(name, reads, side=6):
        weight, half = np.zeros((side, side, len(reads)), np.float32), side // 2
        for k, quadrant in enumerate(reads.values()):
            top, left = half * (quadrant[0] == "s"), half * (quadrant[1] == "e")
            weight[top : top + half, left : left + half, k] = 1 / half**2
        graph = helper.make_graph(
            [
                helper.make_node("Flatten", ["image"], ["pixels"]),
                helper.make_node("MatMul", ["pixels", "weight"], ["logits"]),
            ],
            "quadrants",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, side, side])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(reads)])],
            [numpy_helper.from_array(weight.reshape(-1, len(reads)), "weight")],
        )
        data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
        entry = entry_for(data, "other.onnx", "onnx", precision=Precision.FP32, backends=("onnxruntime-cpu",))
        spec = character_spec(tuple(reads), Preprocessing(side, side, fit="resize"))
        write_bundle(tmp_path / name, spec, {"kind": "onnx"}, [entry])
        return tmp_path / name

    return write_classifier


@pytest.fixture
def opposite(write_classifier):
    """Goes by the opposite quadrant, so that it is right on `se` alone; other size, other order of labels."""
    return write_classifier("opposite.quill", {"sw": "ne", "se": "nw", "ne": "sw", "nw": "se"})


@pytest.fixture
def folder(draw, tmp_path):
    """Ten images of each quadrant; those of `se` show `nw`. Two of each are the test part."""
    for name, k in {"nw": 0, "ne": 1, "sw": 2, "se": 0}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            draw(tmp_path / "images" / name / f"{i}.png", k)
    return f"folder:{tmp_path / 'images'}"


def test_the_summary_of_a_bundle(quadrants_bundle, folder, quillrt):
    """Softmax of 4, -4, -4, -4 is 0.998995; a quarter of that is the share that is sure and wrong."""
    code, out, err = quillrt("evaluate", quadrants_bundle, "--dataset", folder, "--backend", "onnxruntime-cpu")
    assert code == 0, err
    pairs = (re.split(r"  +", line.strip(), maxsplit=1) for line in out[out.index("summary") :].splitlines())
    summary = dict(pair for pair in pairs if len(pair) == 2)
    low, high = binomtest(6, 8).proportion_ci(0.95, method="wilson")
    assert summary["file"] == "model.fp32.onnx"
    assert summary["backend"] == "onnxruntime-cpu"
    assert summary["accuracy"] == f"75.00%, 95% interval {low:.2%} to {high:.2%}"
    assert summary["top-3"] == "75.00%"  # equal logits: nw, ne, sw go before se
    assert summary["expected calibration error"] == f"{0.998995 - 0.75:.2%}"
    assert summary["most confused"] == "se as nw (2)"


def test_the_folder_of_results(quadrants_bundle, folder, quillrt, tmp_path):
    options = ("--dataset", folder, "--backend", "openvino", "--json", "--output", tmp_path / "out")
    code, out, err = quillrt("evaluate", quadrants_bundle, *options)
    assert code == 0, err
    names = ["confusion.png", "evaluation.json", "evaluation.toml", "reliability.png", "worst.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    report = json.loads(out)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == report
    assert (report["file"], report["backend"]) == ("model.fp32.onnx", "openvino")
    assert [(each["true"], each["predicted"]) for each in report["worst"]] == [("se", "nw")] * 2
    with Image.open(tmp_path / "out" / "worst.png") as image:
        white = (np.asarray(image.convert("L")) == 255).all(axis=0)
    assert not white.all()


def test_two_models_of_other_recipes_on_the_same_images(quadrants_bundle, folder, opposite, quillrt):
    """The first is right on 6 of 8, the other on the 2 more. A fair coin falls 6 : 2 or less evenly in
    2 * (1 + 8 + 28) of 256 cases."""
    code, out, err = quillrt("evaluate", quadrants_bundle, "--dataset", folder, "--against", opposite, "--json")
    assert code == 0, err
    report = json.loads(out)
    other = report["against"]
    assert (report["accuracy"], other["accuracy"]) == (0.75, 0.25)
    assert (other["model"], other["file"], other["backend"]) == (str(opposite), "other.onnx", "onnxruntime-cpu")
    assert [each["label"] for each in other["classes"]] == ["sw", "se", "ne", "nw"]
    assert report["mcnemar"] == {"both": 0, "only_first": 6, "only_second": 2, "neither": 0, "p": 74 / 256}


def test_the_comparison_for_people(quadrants_bundle, folder, opposite, quillrt, monkeypatch):
    monkeypatch.chdir(quadrants_bundle.parent)
    options = ("--dataset", folder, "--against", opposite.name, "--backend", "openvino")
    code, out, err = quillrt("evaluate", quadrants_bundle.name, *options, "--against-backend", "onnxruntime-cpu")
    assert code == 0, err
    comparison = out[out.index("two models on the same 8 images: McNemar's exact p = 0.289") :].splitlines()
    rows = [" ".join(line.split()) for line in comparison if ".quill" in line]
    intervals = [binomtest(k, 8).proportion_ci(0.95, method="wilson") for k in (6, 2)]
    (first, second) = (f"{low:.2%} to {high:.2%}" for low, high in intervals)
    assert rows == [
        f"quadrants.quill model.fp32.onnx openvino 75.00% {first} 6",
        f"opposite.quill other.onnx onnxruntime-cpu 25.00% {second} 2",
    ]


def test_a_model_against_itself(quadrants_bundle, folder, quillrt):
    options = ("--dataset", folder, "--against", quadrants_bundle, "--json")
    code, out, err = quillrt("evaluate", quadrants_bundle, *options)
    assert code == 0, err
    assert json.loads(out)["mcnemar"] == {"both": 6, "only_first": 0, "only_second": 0, "neither": 2, "p": 1.0}


def test_bad_comparisons_end_in_one_line(quadrants_bundle, folder, write_classifier, quillrt):
    other = write_classifier("three.quill", {"nw": "nw", "ne": "ne", "up": "sw"})
    for options, says in (
        (("--against", other), "found sw, se only in quadrants.quill and up only in three.quill"),
        (("--against", "other.onnx"), "a bundle (.quill), found other.onnx"),
        (("--against-precision", "fp32"), "give it by --against"),
        (("--against", quadrants_bundle, "--against-backend", "magic"), "magic"),
    ):
        code, out, err = quillrt("evaluate", quadrants_bundle, "--dataset", folder, *options)
        assert (code, out) == (1, "")
        assert says in err
        assert err.startswith("quillrt: error: ")
        assert err.count("\n") == 1
