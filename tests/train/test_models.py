import pytest
import torch
from torch.nn import functional

from quillrt.runtime.errors import ConfigError, SpecError
from quillrt.train.models import build_model


def test_cnn_has_the_parameters_of_its_description():
    shapes = {name: tuple(p.shape) for name, p in build_model("cnn", 10).named_parameters()}
    assert shapes == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "fc1.weight": (128, 9216),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    }


def test_cnn_computes_its_description():
    torch.manual_seed(0)
    module = build_model("cnn", 10).eval()
    w = module.state_dict()
    image = torch.randn(3, 1, 28, 28)
    x = functional.relu(functional.conv2d(image, w["conv1.weight"], w["conv1.bias"]))
    x = functional.relu(functional.conv2d(x, w["conv2.weight"], w["conv2.bias"]))
    x = functional.max_pool2d(x, 2).flatten(1)
    x = functional.relu(x @ w["fc1.weight"].T + w["fc1.bias"]) @ w["fc2.weight"].T + w["fc2.bias"]
    torch.testing.assert_close(module(image), x, rtol=1e-4, atol=1e-5)


def test_dropout_of_a_quarter_and_a_half():
    rates = [m.p for m in build_model("cnn", 10).modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.25, 0.5]


@pytest.mark.parametrize(("height", "width", "classes"), [(6, 6, 2), (29, 33, 62), (64, 64, 26)])
def test_other_sizes(height, width, classes):
    assert build_model("cnn", classes, height, width)(torch.zeros(2, 1, height, width)).shape == (2, classes)


def test_bad_requests():
    with pytest.raises(ConfigError, match="out of cnn, quillnet, rnn or module:factory, found 'resnet'"):
        build_model("resnet", 10)
    with pytest.raises(SpecError, match="6 x 6"):
        build_model("cnn", 10, 28, 5)


@pytest.mark.parametrize("name", ["cnn", "quillnet", "rnn"])
@pytest.mark.parametrize(("side", "classes"), [(28, 2), (32, 62), (64, 26)])
def test_every_network_takes_every_size(name, side, classes):
    assert build_model(name, classes, side, side).eval()(torch.zeros(2, 1, side, side)).shape == (2, classes)


def test_quillnet_is_small_and_its_widths_suit_int8():
    module = build_model("quillnet", 62)
    assert sum(p.numel() for p in module.parameters()) <= 500_000
    widths = [m.out_channels for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(width % 16 == 0 for width in widths)


def test_a_network_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def tiny(classes, height, width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(height * width, classes))\n"
        "def broken(classes, height, width):\n    raise RuntimeError('no weights today')\n"
        "def number(classes, height, width):\n    return 3\n"
        "constant = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert build_model("my_nets:tiny", 7, 8, 9)(torch.zeros(2, 1, 8, 9)).shape == (2, 7)
    for name, says in {
        "my_nets:broken": "no weights today",
        "my_nets:number": "return a torch.nn.Module, found int",
        "my_nets:constant": "expected a function",
        "my_nets:missing": "missing",
        "no_such_module:f": "no_such_module",
        ":f": "expected a function",
    }.items():
        with pytest.raises(ConfigError, match=says):
            build_model(name, 7, 8, 9)
