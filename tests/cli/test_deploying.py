"""`quillrt deploy triton`, from the command line to the files."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.pretrained import find


@pytest.fixture
def triton(quillrt, tmp_path):
    """Deploy into the repository ``repo``: returns (exit code, stdout, stderr)."""

    def triton(bundle, *arguments):
        return quillrt("deploy", "triton", bundle, "--repository", tmp_path / "repo", *arguments)

    return triton


def line(result):
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    return err.removeprefix("quillrt: error: ").strip()


def test_a_repository_is_written(triton, quadrants_bundle, draw, tmp_path, read_triton_config):
    (tmp_path / "images").mkdir()
    draw(tmp_path / "images" / "sw.png", 2)
    batching = ("--max-batch", 8, "--preferred-batch", 4, "--preferred-batch", 8, "--max-queue-delay-us", 100)
    placing = ("--kind", "gpu", "--gpu", 1, "--gpu", 0, "--instances", 2, "--version-policy", "all")
    code, out, err = triton(
        quadrants_bundle, "--warmup", tmp_path / "images", *batching, *placing, "--version", 3, "--json"
    )
    model = tmp_path / "repo" / "quadrants"
    found = json.loads(out)
    config = read_triton_config((model / "config.pbtxt").read_text())

    assert (code, err) == (0, "model.fp32.onnx on Triton's onnxruntime, kind gpu\n")
    assert (found["model"], found["version"], found["entries"], found["max_batch"]) == (
        *("quadrants", 3, ["model.fp32.onnx"], 8),
    )
    written = {str(path.relative_to(model)): path.stat().st_size for path in model.rglob("*") if path.is_file()}
    assert found["files"] == written
    assert (model / "3" / "model.onnx").read_bytes() == Bundle.open(quadrants_bundle).files["model.fp32.onnx"]
    assert (model / "labels.txt").read_text() == "nw\nne\nsw\nse\n"
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (2, 1, [1, 0])
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 100
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    pixels = np.frombuffer((model / "warmup" / "000.bin").read_bytes(), "<f4").reshape(8, 8)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(tmp_path / "images" / "sw.png")) / 127.5 - 1)
    assert [sample.name for sample in config.model_warmup] == ["sw.png"] * 3


def test_a_table_for_people(triton):
    code, out, err = triton("models:digits", "--kind", "cpu", "--precision", "int8", "--max-batch", 0)
    assert (code, err) == (0, "model.int8.cpu.onnx on Triton's onnxruntime, kind cpu\n")
    assert "digits: requests are not batched" in " ".join(out.split())
    assert all(word in out for word in ("config.pbtxt", "labels.txt", "1/model.onnx"))


def test_the_options_saved_beside_the_version_deploy_it_again(triton, quillrt, tmp_path):
    assert triton("models:digits", "-q", "--name", "d", "--preferred-batch", 2, "--precision", "fp32")[0] == 0
    saved = tmp_path / "repo" / "d" / "1" / "deploy.toml"
    code, out, _ = quillrt("deploy", "triton", "--config", saved, "--version", 2, "--json")

    assert (code, json.loads(out)["version"]) == (0, 2)  # as long as nothing shared differs
    assert json.loads(out)["entries"] == ["model.fp32.onnx"]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("[deploy.triton]\nmax-bach = 3\n", "[deploy.triton] in"),
        ("[deploy.tritn]\nmax-batch = 3\n", "such as [deploy.triton], found tritn"),
        ("[triton]\nmax-batch = 3\n", "such as [deploy.triton], found triton"),
        ("deploy = 3\n", "expected a table [deploy.triton]"),
    ],
)
def test_a_config_that_it_cannot_read_is_wrong_usage(triton, tmp_path, text, phrase):
    (tmp_path / "c.toml").write_text(text)
    code, _, err = triton("models:digits", "--config", tmp_path / "c.toml")
    assert code == 2
    assert phrase in " ".join(err.replace("│", "").split())


def test_a_config_holds_tables_of_other_verbs_too(triton, tmp_path):
    (tmp_path / "c.toml").write_text('[run]\ntop-k = 3\n[deploy.triton]\nname = "other"\n')
    code, out, _ = triton("models:digits", "--config", tmp_path / "c.toml", "--json")
    assert (code, json.loads(out)["model"]) == (0, "other")


def test_a_second_version(triton, tmp_path):
    assert triton("models:digits", "-q")[0] == 0
    assert "expected no version 1" in line(triton("models:digits", "-q"))
    assert "for all versions share it" in line(triton("models:digits", "-q", "--version", 2, "--instances", 2))
    assert triton("models:digits", "-q", "--version", 2)[0] == 0
    assert triton("models:digits", "-q", "--version", 2, "--instances", 2, "--force")[0] == 0
    assert "count: 2" in (tmp_path / "repo" / "digits" / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("--name", "a b"), "expected a model name of letters, digits"),
        (("--precision", "bf16"), "expected a bf16 graph in"),
        (("--precision", "int7"), "expected a precision out of"),
        (("--backend", "tensorrt"), "quillrt build"),
        (("--max-batch", "4", "--preferred-batch", "8"), "expected each --preferred-batch from 1 to 4"),
        (("--version-policy", "1,2", "--version", "3"), "expected version 3 among those that are served, found 1,2"),
        (("--warmup", "absent.png"), "expected an image file at absent.png"),
    ],
)
def test_what_cannot_be_deployed_is_one_line_and_leaves_nothing(triton, tmp_path, options, phrase):
    assert phrase in line(triton("models:digits", "-q", *options))
    assert not (tmp_path / "repo").exists()


def test_warm_up_with_what_is_no_image(triton, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    assert "a.png is none" in line(triton("models:digits", "-q", "--warmup", tmp_path / "a.png"))


def test_a_bundles_file_name_that_is_no_models(triton, tmp_path):
    (tmp_path / "my model.quill").write_bytes(find("digits", ".quill").read_bytes())
    assert "found 'my model'; give --name" in line(triton(tmp_path / "my model.quill", "-q"))


def test_a_repository_that_is_a_file(triton, tmp_path):
    (tmp_path / "repo").write_bytes(b"")
    assert "repo, found a file" in line(triton("models:digits", "-q"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_repository_that_may_not_be_written(triton, tmp_path):
    (tmp_path / "repo").mkdir(mode=0o500)
    assert "Permission denied" in line(triton("models:digits", "-q"))


def test_help_and_a_verb_that_is_missing(quillrt):
    code, out, _ = quillrt("deploy", "triton", "-h")
    assert code == 0
    assert all(option in out for option in ("--repository", "--warmup", "--json", "--config", "--debug", "--quiet"))
    code, out, err = quillrt("deploy")
    assert code == 2
    assert "triton" in out + err
