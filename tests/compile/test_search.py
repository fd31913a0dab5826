"""The search on a network that the extremes cannot quantize: one channel of its activations is far above the rest."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quillrt.calibration.collect import collect, tabulate
from quillrt.calibration.samples import draw_samples
from quillrt.compile.answers import Answers
from quillrt.compile.config import CompileConfig
from quillrt.compile.latency import latencies_us, paired
from quillrt.compile.macs import multiply_adds
from quillrt.compile.names import clean
from quillrt.compile.pipeline import compile_bundle
from quillrt.compile.ranges import Images
from quillrt.compile.search import METHODS, Search, Trial, described, options, plot_search, search
from quillrt.compile.source import Source, load_source
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import AccuracyError, ConfigError
from quillrt.runtime.precision import Precision
from quillrt.train.checkpoint import save_checkpoint
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits, load_dataset
from quillrt.train.training import train_new

OUTLIER = 2000  # times the other channels: beyond what 255 steps can spread over


@pytest.fixture(scope="module")
def digits() -> Splits:
    splits = load_dataset("digits")
    return replace(splits, preprocessing=replace(splits.preprocessing, height=8, width=8, fit="resize"))


@pytest.fixture(scope="module")
def images(digits) -> Images:
    return Images("digits", digits.train, digits.validation)


@pytest.fixture(scope="module")
def source(digits, tmp_path_factory) -> Source:
    """A trained network that answers as before, with channel 0 of relu1 enlarged and conv2's weights for it reduced."""
    trained = train_new("cnn", digits, TrainConfig(epochs=6, lr=4e-3, device="cpu"))
    weights = {name: tensor.clone() for name, tensor in trained.weights.items()}
    weights["conv1.weight"][0] = weights["conv1.weight"][0].abs() * OUTLIER  # so that it fires on any ink
    weights["conv1.bias"][0] *= OUTLIER
    weights["conv2.weight"][:, 0] /= OUTLIER
    path = tmp_path_factory.mktemp("search") / "outlier.safetensors"
    save_checkpoint(path, replace(trained, weights=weights))
    return load_source(path)


def tables(source, images, methods=METHODS):
    samples = draw_samples(images.training, 200)
    counts = collect(source.graph, source.spec, samples)
    return [partial(tabulate, counts, source.graph, source.spec, samples, "digits", method) for method in methods]


@pytest.fixture
def answers(source, images):
    return Answers(source.graph, source.spec, images.validation)


def test_nodes_go_back_to_fp32_until_the_gate_holds(source, images, answers) -> None:
    found, table = search(source, ["onnxruntime-cpu"], tables(source, images), (), answers, 0.3)
    assert found.trials[0].method == "minmax"
    assert found.trials[0].drop >= 5
    assert found.chosen.drop <= 0.3
    assert "conv2" in found.chosen.excluded
    assert set(found.chosen.excluded) < {"conv1", "conv2", "fc1", "fc2"}
    assert found.unit.startswith("µs an image")
    assert all(trial.cost > 0 for trial in found.trials)
    assert str(table.method) == found.chosen.method.split()[0]


def test_what_holds_at_once_is_not_searched(source, images, answers) -> None:
    found, table = search(source, ["onnxruntime-cpu"], tables(source, images), ("conv2",), answers, 0.5)
    assert len(found.trials) == 1
    assert (found.chosen.excluded, table.method) == (("conv2",), "minmax")


def test_where_no_engine_runs_the_cost_is_what_stays_in_fp32(source, images, answers) -> None:
    found, _ = search(source, ["tensorrt"], tables(source, images, METHODS[:1]), ("conv2",), answers, 100)
    macs = multiply_adds(source.graph)
    assert found.unit == "share of multiply-adds in FP32, for this target is not timed here"
    assert found.chosen.cost == pytest.approx(macs["conv2"] / sum(macs.values()))


def test_no_further_table_is_made_where_the_first_holds(source, images, answers) -> None:
    made = [*tables(source, images, METHODS[:1]), lambda: pytest.fail("the first table holds")]
    found, _ = search(source, ["onnxruntime-cpu"], made, ("conv2",), answers, 0.5)
    assert len(found.trials) == 1


def test_a_gate_that_nothing_holds_names_the_best(source, images, answers) -> None:
    with pytest.raises(AccuracyError, match=r"at most 0 points, found none among 1\d: the best, .*, loses \d+\.\d\d"):
        search(source, ["tensorrt"], _ruined(tables(source, images)), (), answers, 0)


def _ruined(found):
    """Ranges that clip everything, so that INT8 of any node destroys all."""
    tables = [make() for make in found]
    ruined = [replace(t, ranges={**t.ranges, **dict.fromkeys(t.ranges, (0.0, 1e-6))}) for t in tables]
    return [lambda table=table: table for table in ruined]


def test_the_bundle_is_made_as_the_search_chose_and_its_options_make_it_again(source, images, tmp_path) -> None:
    config = CompileConfig(precisions=(Precision.INT8,), samples=200, max_drop=0.3)
    bundle, verdicts, found, _ = compile_bundle(source, images, config, tmp_path / "a.quill")
    assert max(verdict.drop for verdict in verdicts) <= 0.3
    words = options(found.chosen)
    excluded = tuple(word for before, word in pairwise(words) if before == "--exclude")
    assert (words[:2], excluded) == (["--method", found.chosen.method.split()[0]], found.chosen.excluded)
    method = next(m for m in METHODS if str(m) == found.chosen.method)
    again = CompileConfig(precisions=(Precision.INT8,), samples=200, method=method, excluded=excluded)
    compile_bundle(source, images, again, tmp_path / "b.quill")
    name = "model.int8.cpu.onnx"
    assert Bundle.open(tmp_path / "b.quill").files[name] == bundle.files[name]


@pytest.mark.parametrize("points", [-1.0, 101.0, float("nan")])
def test_gates_that_are_none(points: float) -> None:
    with pytest.raises(ConfigError, match="0 to 100 points"):
        CompileConfig(max_drop=points)


def test_the_front_by_hand(tmp_path) -> None:
    trials = [
        Trial("minmax", (), 5.0, 0.0, 3.0, 10),
        Trial("mse", (), 4.0, 0.0, 2.0, 10),
        Trial("mse", ("a",), 4.5, 0.0, 2.0, 12),
        Trial("mse", ("a", "b"), 0.1, 0.9, 0.1, 15),
        Trial("mse", ("a", "b", "c"), 0.1, 0.9, 0.1, 20),
    ]
    found = Search(tuple(trials), trials[3], "µs")
    assert found.front == (trials[1], trials[3])
    assert described(trials[3]) == "mse without a, b"
    assert options(Trial("percentile 99.9", ("a b",), 0, 1, 0)) == [
        *("--method", "percentile", "--percentile", "99.9", "--exclude", "a b")
    ]
    plot_search(tmp_path / "front.png", found, "a title")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_multiply_adds_by_hand(classifier) -> None:
    """6 x 6 outputs of 4 channels, 9 weights each; 36 inputs to 3 outputs."""
    assert multiply_adds(clean(classifier)) == {"Conv": 6 * 6 * 4 * 9, "Gemm": 36 * 3}


def test_multiply_adds_of_groups_and_plain_products() -> None:
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "grouped", group=2),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "m"], ["logits"], "product"),
    ]
    constants = {"w": np.ones((6, 2, 3, 3), np.float32), "m": np.ones((6 * 4, 5), np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert multiply_adds(model) == {"grouped": 2 * 2 * 6 * 2 * 9, "product": 24 * 5}


def test_a_larger_network_takes_longer(spec) -> None:
    def network(width: int) -> bytes:
        rng = np.random.default_rng(0)
        weights = {"w": rng.normal(size=(64, width)), "v": rng.normal(size=(width, 3))}
        nodes = [
            helper.make_node("Flatten", ["image"], ["a"]),
            helper.make_node("MatMul", ["a", "w"], ["b"]),
            helper.make_node("MatMul", ["b", "v"], ["logits"]),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()

    images = np.zeros((3, 1, 8, 8), np.float32)
    small, large = latencies_us([("onnxruntime-cpu", network(width)) for width in (4, 20_000)], spec, images)
    assert 0 < small < large


def test_a_slow_moment_decides_nothing() -> None:
    # The machine is half as fast from the third turn on, where c takes no part: by plain medians c would win.
    turns = [{"a": 10.0, "b": 11.0, "c": 16.0}] * 2 + [{"a": 20.0, "b": 22.0}] * 3
    assert paired(turns) == pytest.approx({"a": 20.0, "b": 22.0, "c": 32.0})


def test_onnx_is_left_as_it_was(source, images, answers) -> None:
    before = source.graph.SerializeToString()
    search(source, ["onnxruntime-cpu"], tables(source, images, METHODS[:1]), (), answers, 100)
    assert isinstance(source.graph, onnx.ModelProto)
    assert source.graph.SerializeToString() == before
