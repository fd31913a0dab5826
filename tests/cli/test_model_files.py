"""Every verb that takes a model takes `models:NAME` for its path, keeps the name and leaves the package as it is."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from quillrt.cli.model_files import bundle_file, checkpoint_file
from quillrt.train.datasets import load_dataset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.usefixtures("stand_in")

ON_CPU = ("--target", "onnxruntime-cpu", "--precision", "fp32")
QUICK = ("--seconds", 0.02, "--batch", 2, "--backend", "eager", "--backend", "onnxruntime-cpu")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_a_picture_is_recognized_at_once(quillrt):
    test = load_dataset("digits").test
    Path("pictures").mkdir()
    for i in range(20):
        Image.fromarray(test.images[i]).save(f"pictures/{i:02d}.png")

    code, out, err = quillrt("run", "models:small", "pictures", "--json")

    assert code == 0, err
    found = json.loads(out)
    assert found["bundle"] == "models:small"
    right = sum(p["top"][0]["label"] == str(test.labels[i]) for i, p in enumerate(found["predictions"]))
    assert right > 10  # guessing gives 2


def test_inspect_shows_the_bundle(quillrt):
    code, out, _ = quillrt("inspect", "models:small")

    assert code == 0
    assert "small.quill: image (N, 1, 8, 8) -> logits (N, 10)" in out


def test_verify_compares_the_files_of_the_bundle(quillrt):
    code, out, err = quillrt("verify", "models:small")

    assert code == 0, err
    assert out.splitlines()[0].startswith("models:small: on the test part of digits")


def test_evaluate_takes_the_bundle_unless_the_name_says_checkpoint(quillrt):
    code, bundle, err = quillrt("evaluate", "models:small", "--precision", "fp32", "--json")
    assert code == 0, err
    code, checkpoint, err = quillrt("evaluate", "models:small.safetensors", "--backend", "eager", "--json")
    assert code == 0, err

    bundle, checkpoint = json.loads(bundle), json.loads(checkpoint)
    assert (bundle["model"], checkpoint["model"]) == ("models:small", "models:small.safetensors")
    assert bundle["accuracy"] == checkpoint["accuracy"] > 0.5
    code, _, err = quillrt("evaluate", "models:small.safetensors", "--precision", "int8")
    assert (code, "is a checkpoint: compile it first" in err) == (1, True)


def test_bench_measures_the_bundle_beside_the_checkpoint(quillrt, stand_in):
    code, out, err = quillrt("bench", "models:small", "--checkpoint", "models:small", *QUICK, "--json", "-q")

    assert code == 0, err
    assert {row["backend"] for row in json.loads(out)["rows"] if row["measured"]} == {"eager", "onnxruntime-cpu"}
    saved = tomllib.loads(Path("runs/bench/config.toml").read_text())["bench"]
    assert (saved["bundle"], saved["checkpoint"]) == ("models:small", "models:small")
    assert str(stand_in) not in Path("runs/bench/result.json").read_text()


def test_calibrate_and_compile_write_into_runs_and_keep_the_name(quillrt, stand_in):
    code, _, err = quillrt("calibrate", "models:small", "--samples", 16)
    assert code == 0, err
    code, out, err = quillrt("compile", "models:small", *ON_CPU, "--json")
    assert code == 0, err

    assert json.loads(out)["path"] == "runs/small.quill"
    assert {path.name for path in Path("runs").iterdir()} == {
        *("calibration.json", "calibration.json.toml", "small.quill", "small.quill.toml")
    }
    for verb, file in (("calibrate", "calibration.json.toml"), ("compile", "small.quill.toml")):
        text = Path("runs", file).read_text()
        assert tomllib.loads(text)[verb]["source"] == "models:small"
        assert str(stand_in) not in text


def test_finetune_starts_from_the_checkpoint_and_writes_into_runs(quillrt, stand_in):
    for label, k in (("a", 10), ("b", 200)):
        Path("mine", label).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (8, 8), k + i).save(f"mine/{label}/{i}.png")
    code, out, err = quillrt("finetune", "models:small", "--dataset", "folder:mine", "--epochs", 1, "--json")

    assert code == 0, err
    assert json.loads(out)["path"] == "runs/small-on-mine.safetensors"
    text = Path("runs/small-on-mine.safetensors.toml").read_text()
    assert tomllib.loads(text)["finetune"]["checkpoint"] == "models:small"
    assert str(stand_in) not in text


def test_a_name_in_a_config_is_found_too(quillrt):
    Path("compile.toml").write_text('[compile]\nsource = "models:small"\nprecision = ["fp32"]\n')

    code, out, err = quillrt("compile", "--config", "compile.toml", "--target", "onnxruntime-cpu", "--json")

    assert code == 0, err
    assert json.loads(out)["path"] == "runs/small.quill"


def test_a_path_stays_a_path_and_what_is_made_of_it_lies_beside_it(stand_in):
    for given in ("a/model.safetensors", "model.onnx", "models", "models/small", "./models:small"):
        for parse in (bundle_file, checkpoint_file):
            found = parse(given)
            assert (str(found), found.path) == (given, Path(given))
            assert found.beside(".quill") == Path(given).with_suffix(".quill")
    assert bundle_file("models:small").path == stand_in / "small.quill"
    assert checkpoint_file("models:small").path == stand_in / "small.safetensors"
    assert bundle_file("models:small.safetensors").path == stand_in / "small.safetensors"
    assert checkpoint_file("models:small").beside(".quill") == Path("runs/small.quill")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "models:big", "image.png"),
        ("inspect", "models:big"),
        ("verify", "models:big"),
        ("bench", "models:big"),
        ("bench", "models:small", "--checkpoint", "models:big"),
        ("calibrate", "models:big"),
        ("compile", "models:big"),
        ("evaluate", "models:big"),
        ("finetune", "models:big"),
        ("models", "models:big"),
    ],
    ids=" ".join,
)
def test_an_unknown_name_is_one_line_that_tells_the_known(quillrt, arguments):
    code, out, err = quillrt(*arguments)

    assert (code, out) == (1, "")
    assert err == "quillrt: error: expected a pretrained model out of small; found 'big'\n"


def test_a_file_that_the_install_lacks_is_one_line(quillrt, monkeypatch, stand_in, tmp_path):
    shutil.copy(stand_in / "small.toml", tmp_path)
    monkeypatch.setattr("quillrt.runtime.pretrained.FOLDER", tmp_path)

    code, out, err = quillrt("run", "models:small", "image.png")

    assert (code, out) == (1, "")
    assert "expected the file small.quill in" in err
    assert "install quillrt again" in err
    assert err.count("\n") == 1
