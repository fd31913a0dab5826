import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from quillrt.runtime.errors import CheckpointError, ConfigError
from quillrt.runtime.spec import character_spec
from quillrt.train.models import build_model
from quillrt.train.pth import load_pth


@pytest.fixture
def spec(digits):
    return character_spec(digits.classes, digits.preprocessing)


@pytest.fixture
def weights():
    torch.manual_seed(11)
    return build_model("quillnet", 10).state_dict()


def saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model_state_dict": w, "optimizer_state_dict": {"state": {}, "param_groups": []}},
        lambda w: {"model": w, "args": [1, 2]},
        lambda w: {f"module.{name}": tensor for name, tensor in w.items()},
        lambda w: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in w.items()}},
        lambda w: {f"_orig_mod.module.{name}": tensor for name, tensor in w.items()},
        lambda w: {name: nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in w.items()},
    ],
    ids=["plain", "state_dict", "model_state_dict", "model", "module.", "both", "other order", "parameters"],
)
def test_weights_are_found_however_they_were_saved(tmp_path, spec, weights, wrap):
    found = load_pth(saved(tmp_path / "net.pth", wrap(weights)), "quillnet", spec)
    assert (found.fresh, found.unused) == ((), ())
    assert found.checkpoint.weights.keys() == weights.keys()
    assert all(torch.equal(found.checkpoint.weights[name], tensor) for name, tensor in weights.items())
    assert found.checkpoint.training == {"pth": "net.pth"}
    found.checkpoint.module()


def test_an_old_file_is_read_too(tmp_path, spec, weights):
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_pth(tmp_path / "old.pth", "quillnet", spec).fresh == ()


def test_what_does_not_fit_is_listed_and_fresh_by_seed(tmp_path, spec, weights):
    del weights["block1.conv.weight"]
    weights |= {"head.weight": torch.zeros(26, 96), "extra": torch.zeros(1)}
    path = saved(tmp_path / "net.pth", weights)
    found, again, other = (load_pth(path, "quillnet", spec, seed) for seed in (1, 1, 2))
    assert found.fresh == ("block1.conv.weight", "head.weight")
    assert found.reshaped == {"head.weight": ((26, 96), (10, 96))}
    assert found.unused == ("extra",)
    for name in ("block1.conv.weight", "head.weight"):
        assert torch.equal(found.checkpoint.weights[name], again.checkpoint.weights[name])
        assert not torch.equal(found.checkpoint.weights[name], other.checkpoint.weights[name])
    assert torch.equal(found.checkpoint.weights["head.bias"], weights["head.bias"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensor: tensor.to(torch.int8), r"head\.bias has torch\.int8; save"),
        (lambda tensor: tensor / 0, r"head\.bias has NaN or infinity; save the network again"),
    ],
)
def test_what_cannot_be_weights_is_refused(tmp_path, spec, weights, change, says):
    path = saved(tmp_path / "net.pth", {**weights, "head.bias": change(weights["head.bias"])})
    with pytest.raises(CheckpointError, match=says):
        load_pth(path, "quillnet", spec)


def test_half_precision_will_do(tmp_path, spec, weights):
    path = saved(tmp_path / "net.pth", {name: t.half() if t.ndim else t for name, t in weights.items()})
    assert load_pth(path, "quillnet", spec).fresh == ()


def test_nothing_that_fits(tmp_path, spec, weights):
    path = saved(tmp_path / "net.pth", {f"other.{name}": tensor for name, tensor in weights.items()})
    with pytest.raises(CheckpointError, match=r"none has a name and shape .* other\.block1.* quillnet has block1"):
        load_pth(path, "quillnet", spec)


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"epoch": 3}, torch.zeros(3), {"state_dict": {"lr": 0.1}}, "text", None]
)
def test_files_without_named_tensors(tmp_path, spec, content):
    with pytest.raises(CheckpointError, match=r"found no tensors by name; save model\.state_dict\(\)"):
        load_pth(saved(tmp_path / "net.pth", content), "quillnet", spec)


class Touching:
    """What unpickles to a call: the file at ``path`` is made by whoever runs the code in the pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_is_not_run(tmp_path, spec, weights, write):
    path, trace = tmp_path / "net.pth", tmp_path / "trace"
    write({**weights, "code": Touching(trace)}, path)
    with pytest.raises(CheckpointError, match=r"found code, objects that are no tensors|another kind of file"):
        load_pth(path, "quillnet", spec)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Touching(trace)))  # which otherwise is
    assert trace.exists()


def test_a_whole_network_is_refused(tmp_path, spec):
    with pytest.raises(CheckpointError, match=r"save it with torch\.save\(model\.state_dict\(\), path\)"):
        load_pth(saved(tmp_path / "net.pth", build_model("quillnet", 10)), "quillnet", spec)


@pytest.mark.parametrize("cut", [0, 10, 400, 100_000])
def test_damaged_files(tmp_path, spec, weights, cut):
    path = saved(tmp_path / "net.pth", weights)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="another kind of file") as caught:
        load_pth(path, "quillnet", spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("byte", range(60, 1000, 97))
def test_a_byte_changed_in_the_pickle(tmp_path, spec, weights, byte):
    """It may be harmless; what it must not end in is any other error."""
    path = saved(tmp_path / "net.pth", weights)
    data = bytearray(path.read_bytes())
    data[byte] ^= 0x15
    path.write_bytes(data)
    with suppress(CheckpointError):
        load_pth(path, "quillnet", spec)


def test_no_file_and_a_folder(tmp_path, spec):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(CheckpointError, match="check the path"):
            load_pth(path, "quillnet", spec)


def test_no_such_model(tmp_path, spec, weights):
    with pytest.raises(ConfigError, match="found 'resnet'"):
        load_pth(saved(tmp_path / "net.pth", weights), "resnet", spec)
