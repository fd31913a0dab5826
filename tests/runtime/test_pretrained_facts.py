import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BundleError, CheckpointError
from quillrt.runtime.pretrained_facts import facts
from quillrt.train.checkpoint import load_checkpoint


@pytest.fixture
def copy(monkeypatch, stand_in_folder, tmp_path):
    """A copy of the stand-in that a test may damage."""
    for path in stand_in_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("quillrt.runtime.pretrained.FOLDER", tmp_path)
    return tmp_path


def test_facts_are_those_of_the_checkpoint_and_the_bundle(stand_in):
    found = facts("small")

    checkpoint = load_checkpoint(stand_in / "small.safetensors")
    assert (found.name, found.network, found.dataset) == ("small", "cnn", "digits")
    assert found.labels == checkpoint.spec.labels == tuple("0123456789")
    assert found.parameters == sum(p.numel() for p in checkpoint.module().parameters())
    assert found.checkpoint_bytes == len((stand_in / "small.safetensors").read_bytes())
    assert found.bundle_bytes == len((stand_in / "small.quill").read_bytes())


def test_accuracies_are_those_that_the_compiler_measured(stand_in):
    report = json.loads(Bundle.open(stand_in / "small.quill").files["report.json"])
    ran = {(v["path"], v["backend"]): (v["accuracy"], v["n"]) for v in report["verdicts"] if v["n"]}

    measured = facts("small").measured

    assert len(ran) > 1
    assert {(m["file"], m["backend"]): (m["accuracy"], m["n"]) for m in measured} == ran
    assert {(m["dataset"], m["part"]) for m in measured} == {("digits", "validation")}


def test_what_batch_norm_keeps_beside_its_parameters_does_not_count(copy):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4))
    save_file(module.state_dict(), copy / "small.safetensors")

    assert len(module.state_dict()) == 6
    assert facts("small").parameters == 4 * 9 + 4 + 4


@pytest.mark.parametrize("data", [b"", b"short", b"\x02" + 7 * b"\0" + b"[]", 8 * b"\xff" + b"{", b"\x02" + 7 * b"\0"])
def test_a_damaged_checkpoint_is_told(copy, data):
    (copy / "small.safetensors").write_bytes(data)

    with pytest.raises(CheckpointError, match=r"small\.safetensors, but it is damaged"):
        facts("small")


def test_a_damaged_bundle_is_told(copy):
    data = (copy / "small.quill").read_bytes()
    (copy / "small.quill").write_bytes(data[: len(data) // 2])

    with pytest.raises(BundleError, match=r"small\.quill"):
        facts("small")


def test_a_bundle_names_the_checkpoint_and_no_place_of_the_machine_that_made_it(stand_in):
    bundle = Bundle.open(stand_in / "small.quill")

    assert bundle.manifest.source["sha256"] == hashlib.sha256((stand_in / "small.safetensors").read_bytes()).hexdigest()
    for file in ("small.quill", "small.safetensors"):
        data = (stand_in / file).read_bytes()
        for place in (stand_in, torch.__path__[0], __file__):
            assert str(place).encode() not in data
