import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from quillrt.runtime.errors import CheckpointError
from quillrt.runtime.spec import character_spec
from quillrt.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def saved(tmp_path, untrained):
    path = tmp_path / "new" / "model.safetensors"
    save_checkpoint(path, untrained)
    return path


def test_round_trip(saved, untrained):
    loaded = load_checkpoint(saved)
    assert (loaded.model, loaded.spec, loaded.training) == (untrained.model, untrained.spec, untrained.training)
    assert loaded.weights.keys() == untrained.weights.keys()
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in untrained.weights.items())
    assert [file.name for file in saved.parent.iterdir()] == ["model.safetensors"]


def test_denoising_is_kept(tmp_path, untrained):
    recipe = replace(untrained.spec.preprocessing, denoise=("median", "levels"))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, replace(untrained, spec=replace(untrained.spec, preprocessing=recipe)))
    assert load_checkpoint(path).spec.preprocessing == recipe


def test_file_is_plain_safetensors(saved, untrained):
    """Read by the format's description: a length, a JSON header, the tensors."""
    data = saved.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    meaning = json.loads(header.pop("__metadata__")["quillrt"])
    assert meaning["schema"] == 1
    assert meaning["spec"]["labels"] == list("0123456789")
    begin, end = header["fc2.bias"]["data_offsets"]
    values = struct.unpack("<10f", data[8 + length + begin : 8 + length + end])
    assert list(values) == untrained.weights["fc2.bias"].tolist()


def test_module_is_in_eval_mode_with_weights_of_its_own(untrained):
    module = untrained.module()
    assert not module.training
    before = untrained.weights["fc2.bias"].clone()
    with torch.no_grad():
        module.fc2.bias += 1
    assert torch.equal(untrained.weights["fc2.bias"], before)


def test_checkpoint_holds_a_copy(untrained):
    module = untrained.module()
    copy = Checkpoint.of("cnn", untrained.spec, module.state_dict(), {})
    with torch.no_grad():
        module.fc2.bias += 1
    assert torch.equal(copy.weights["fc2.bias"], untrained.weights["fc2.bias"])


def test_loading_leaves_the_random_numbers_alone(saved):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_checkpoint(saved)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no checkpoint at all, only a line of text",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:4] + b"\xff" + data[5:],  # a header longer than the file
        lambda data: b"PK\x03\x04" + data[4:],  # how a .pth file begins
    ],
)
def test_damaged_file(saved, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(saved)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="check the path"):
            load_checkpoint(path)


def test_pickle_is_refused(tmp_path, untrained):
    path = tmp_path / "model.safetensors"
    torch.save(untrained.weights, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_whole_numbers_are_no_weights(tmp_path, untrained):
    path = tmp_path / "model.safetensors"
    whole = {name: tensor.to(torch.int8) for name, tensor in untrained.weights.items()}
    save_checkpoint(path, replace(untrained, weights=whole))
    with pytest.raises(CheckpointError, match=r"is torch\.int8"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"quillrt": "{"}, {"quillrt": "[]"}, {"quillrt": "{}"}])
def test_foreign_safetensors(tmp_path, untrained, metadata):
    path = tmp_path / "model.safetensors"
    save_file(untrained.weights, path, metadata)
    with pytest.raises(CheckpointError, match="that quillrt wrote"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema 1 at most"),
        ({"schema": "1"}, "that quillrt wrote"),
        ({"spec": {}}, "model spec"),
        ({"model": "resnet"}, "out of cnn"),
        ({"model": ["cnn"]}, "that quillrt wrote"),
        ({"training": []}, "that quillrt wrote"),
    ],
)
def test_changed_metadata(tmp_path, untrained, change, says):
    meaning = {"schema": 1, "model": "cnn", "spec": untrained.spec.to_json(), "training": {}} | change
    path = tmp_path / "model.safetensors"
    save_file(untrained.weights, path, {"quillrt": json.dumps(meaning)})
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def wider_head(c):
    return replace(c, weights={**c.weights, "fc2.weight": torch.zeros(11, 128)})


def without_bias(c):
    return replace(c, weights={name: t for name, t in c.weights.items() if name != "conv1.bias"})


def with_more(c):
    return replace(c, weights={**c.weights, "conv3.bias": torch.zeros(3)})


def other_classes(c):
    return replace(c, spec=character_spec(("a", "b"), c.spec.preprocessing))


@pytest.mark.parametrize(
    ("change", "says"),
    [(wider_head, "fc2.weight"), (without_bias, "conv1.bias"), (with_more, "conv3.bias"), (other_classes, "2 classes")],
)
def test_weights_that_do_not_fit(tmp_path, untrained, change, says):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, change(untrained))
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def test_where_nothing_can_be_written(tmp_path, untrained):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_checkpoint(tmp_path / "file" / "model.safetensors", untrained)
