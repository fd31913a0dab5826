import pytest
import torch

from quillrt.runtime.errors import CheckpointError
from quillrt.train.pth import load_pth


def wrapped(prefix):
    return lambda weights: {f"{prefix}{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "nest",
    [dict, wrapped("module."), wrapped("_orig_mod."), lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model": w}],
)
def test_weights_are_found_by_name(tmp_path, untrained, nest):
    path = tmp_path / "mnist_cnn.pt"
    torch.save(nest(untrained.weights), path)
    found = load_pth(path, "cnn", untrained.spec)
    assert (found.fresh, found.unused) == ((), ())
    assert all(torch.equal(found.checkpoint.weights[name], tensor) for name, tensor in untrained.weights.items())
    assert found.checkpoint.training == {"pth": "mnist_cnn.pt"}


def test_what_does_not_fit_is_listed(tmp_path, untrained):
    weights = {name: tensor for name, tensor in untrained.weights.items() if name != "conv1.bias"}
    weights |= {"fc2.weight": torch.zeros(26, 128), "fc9.bias": torch.zeros(3)}
    torch.save(weights, tmp_path / "other.pth")
    found = load_pth(tmp_path / "other.pth", "cnn", untrained.spec)
    assert found.fresh == ("conv1.bias", "fc2.weight")
    assert set(found.unused) == {"fc2.weight", "fc9.bias"}
    assert torch.equal(found.checkpoint.weights["fc1.weight"], untrained.weights["fc1.weight"])
    assert found.checkpoint.weights["fc2.weight"].shape == (10, 128)


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_refusals(tmp_path, untrained, capsys):
    cases = {
        "none.pth": (None, "check the path"),
        "evil.pth": ({"a": Evil()}, "with code or objects"),
        "list.pth": ([1, 2], "no tensors by name"),
        "strange.pth": ({"layer.weight": torch.zeros(3)}, "none has a name and shape that fits"),
    }
    for name, (content, says) in cases.items():
        if content is not None:
            torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError, match=says):
            load_pth(tmp_path / name, "cnn", untrained.spec)
    torch.save(untrained.weights, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="is damaged or another kind of file"):
        load_pth(tmp_path / "cut.pth", "cnn", untrained.spec)
    assert "this must not run" not in capsys.readouterr().out
