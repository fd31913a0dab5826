"""Fixtures shared by all tests: a classifier whose answers are known by hand, a bundle of it, and the command."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import ModelSpec, character_spec


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """Let no test find what another, or the user, has kept."""
    monkeypatch.setenv("QUILLRT_CACHE", str(tmp_path_factory.mktemp("cache")))


@dataclass(frozen=True)
class Quadrants:
    """Logit k is four times the mean of quadrant k of an image normalized to -1..1.

    One white quadrant on black is thus +4 against three times -4: a probability of 1 / (1 + 3 exp(-8)) = 0.998995.
    """

    spec: ModelSpec
    onnx: bytes

    @staticmethod
    def logits(batch):
        """What the graph must answer, by other means than the graph: (N, 1, 8, 8) to (N, 4)."""
        return 4 * batch.reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4)


@pytest.fixture(scope="session")
def quadrants():
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((8, 8, 4), np.float32)
    for k, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        weight[row : row + 4, column : column + 4, k] = 4 / 16
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["pixels"]),
            helper.make_node("MatMul", ["pixels", "weight"], ["logits"]),
        ],
        "quadrants",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight.reshape(64, 4), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    recipe = Preprocessing(height=8, width=8, mean=0.5, std=0.5, fit="resize")
    return Quadrants(character_spec(("nw", "ne", "sw", "se"), recipe), model.SerializeToString())


@pytest.fixture
def quadrants_bundle(quadrants, tmp_path):
    """A bundle with the FP32 graph of ``quadrants``."""
    path = tmp_path / "quadrants.quill"
    entry = entry_for(
        quadrants.onnx,
        "model.fp32.onnx",
        "onnx",
        precision=Precision.FP32,
        backends=("onnxruntime-cuda", "onnxruntime-cpu", "openvino"),
        typed_for=("tensorrt", "tensorrt-rtx"),
    )
    write_bundle(path, quadrants.spec, {"kind": "onnx"}, [entry])
    return path


@pytest.fixture
def draw():
    """Write an image whose quadrant ``k`` is white on black: ``quadrants`` recognizes it."""

    def draw(path, k):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[4 * (k // 2) :, 4 * (k % 2) :][:4, :4] = 255
        Image.fromarray(pixels).save(path)
        return path

    return draw


@pytest.fixture
def quillrt(monkeypatch, capsys):
    """Run the command in this process: ``quillrt("run", ...)`` returns (exit code, stdout, stderr)."""
    from quillrt.cli import options
    from quillrt.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["quillrt", *map(str, arguments)])
        monkeypatch.setattr(options, "_debug", False)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def stand_in_folder(tmp_path_factory):
    """A folder as models/ is, with one model: ``small``, two epochs of `cnn` on the digits at 8 x 8 pixels."""
    from dataclasses import replace

    from quillrt.compile.config import CompileConfig
    from quillrt.compile.pipeline import compile_bundle
    from quillrt.compile.ranges import Images
    from quillrt.compile.source import load_source
    from quillrt.train.checkpoint import save_checkpoint
    from quillrt.train.config import TrainConfig
    from quillrt.train.datasets import load_dataset
    from quillrt.train.training import train_new

    digits = load_dataset("digits")
    recipe = replace(digits.preprocessing, height=8, width=8, fit="resize")
    trained = train_new("cnn", replace(digits, preprocessing=recipe), TrainConfig(epochs=2))
    folder = tmp_path_factory.mktemp("models")
    checkpoint = folder / "small.safetensors"
    save_checkpoint(checkpoint, replace(trained, training={"dataset": "digits", **trained.training}))
    images = Images("digits", digits.train, digits.validation)
    compile_bundle(load_source(checkpoint), images, CompileConfig(samples=32), folder / "small.quill")
    (folder / "small.md").write_text("# small\n\nA stand-in; it reads “digits” badly.\n", encoding="utf-8")
    (folder / "small.toml").write_text('[train]\ndataset = "digits"\nepochs = 2\n', encoding="utf-8")
    return folder


@pytest.fixture
def stand_in(monkeypatch, stand_in_folder):
    """The pretrained models are those of ``stand_in_folder``, which a test must leave as it is."""
    monkeypatch.setattr("quillrt.runtime.pretrained.FOLDER", stand_in_folder)
    before = {path.name: path.read_bytes() for path in stand_in_folder.iterdir()}
    yield stand_in_folder
    assert {path.name: path.read_bytes() for path in stand_in_folder.iterdir()} == before


@pytest.fixture
def read_triton_config():
    """Read a `config.pbtxt` by Triton's own protobuf definitions, as its server does; unknown fields are errors."""
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return lambda text: text_format.Parse(text, ModelConfig())
