import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.nn import functional

from quillrt.runtime.errors import ConfigError, SpecError
from quillrt.train.models import MODELS, build_model, layers
from quillrt.train.seeding import seeded


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


@pytest.fixture
def quillnet():
    """With norms that do something: statistics and scales unlike those of fresh ones."""
    with seeded(0):
        module = build_model("quillnet", 10).eval()
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 1 and tensor.shape != (10,):
                tensor.data.uniform_(0.5, 1.5)
    return module


def test_quillnet_computes_its_description(quillnet):
    """Seven times convolution, norm and ReLU, halved after the second and the fourth; a mean; the head."""
    w = quillnet.state_dict()
    with seeded(1):
        image = torch.randn(3, 1, 28, 28)
    x = image
    for i in range(1, 8):
        norm = {name: w[f"block{i}.norm.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight")}
        x = functional.conv2d(x, w[f"block{i}.conv.weight"], padding=1)
        x = (x - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"]
        x = (x + w[f"block{i}.norm.bias"][:, None, None]).clamp(min=0)
        if i in (2, 4):
            x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
    torch.testing.assert_close(quillnet(image), x.mean((2, 3)) @ w["head.weight"].T + w["head.bias"])


@pytest.mark.parametrize(("classes", "size"), [(2, 28), (62, 64)])
def test_quillnet_is_small_and_fits_int8_kernels(classes, size):
    module = build_model("quillnet", classes, size, size)
    assert sum(p.numel() for p in module.parameters()) <= 500_000
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert {m.out_channels % 16 for m in convolutions} == {0}
    assert {m.in_channels % 16 for m in convolutions[1:]} == {0}


def test_rnn_computes_a_gru_row_by_row():
    """The equations of torch's manual, ``torch.nn.GRU``: reset r, update z, candidate n; h = (1 - z) n + z h."""
    with seeded(0):
        module = build_model("rnn", 10).eval()
        image = torch.randn(3, 1, 28, 28)
    w = module.state_dict()
    rows = list(image[:, 0].unbind(1))  # from the top, (3, 28) each
    for layer in (0, 1):
        h, states = torch.zeros(3, 128), []
        for row in rows:
            of_x = (row @ w[f"gru.weight_ih_l{layer}"].T + w[f"gru.bias_ih_l{layer}"]).chunk(3, dim=1)
            of_h = (h @ w[f"gru.weight_hh_l{layer}"].T + w[f"gru.bias_hh_l{layer}"]).chunk(3, dim=1)
            r, z = ((a + b).sigmoid() for a, b in zip(of_x[:2], of_h[:2], strict=True))
            h = (1 - z) * (of_x[2] + r * of_h[2]).tanh() + z * h
            states.append(h)
        rows = states
    torch.testing.assert_close(module(image), rows[-1] @ w["head.weight"].T + w["head.bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [2, 62])
@pytest.mark.parametrize(("height", "width"), [(6, 6), (28, 28), (32, 32), (29, 33), (64, 64)])
def test_every_model_at_every_size(name, classes, height, width):
    """Each image has its own finite answer: the network neither mixes a batch nor loses the image."""
    with seeded(0):
        module = build_model(name, classes, height, width).eval()
        images = torch.rand(2, 1, height, width)
    logits = module(images)
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1:], module(images[1:]), rtol=1e-4, atol=1e-5)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_part_in_the_answer(name):
    with seeded(0):
        module = build_model(name, 10).train()
        functional.cross_entropy(module(torch.randn(16, 1, 28, 28)), torch.arange(16) % 10).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_layers_by_hand():
    assert layers(build_model("cnn", 10)) == [
        [f"{layer}.{kind}" for kind in ("weight", "bias")] for layer in ("conv1", "conv2", "fc1", "fc2")
    ]
    blocks = [[f"block{i}.conv.weight", f"block{i}.norm.weight", f"block{i}.norm.bias"] for i in range(1, 8)]
    assert layers(build_model("quillnet", 10)) == [*blocks, ["head.weight", "head.bias"]]
    gru = [
        f"gru.{kind}_{source}_l{layer}" for layer in (0, 1) for kind in ("weight", "bias") for source in ("ih", "hh")
    ]
    assert layers(build_model("rnn", 10)) == [gru, ["head.weight", "head.bias"]]


def test_parameters_of_the_network_itself_count_to_the_first_layer():
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))
    module.register_parameter("scale", nn.Parameter(torch.ones(1)))
    assert layers(module) == [["scale", "0.weight", "0.bias"], ["2.weight"]]
    assert layers(nn.Linear(2, 2)) == [["weight", "bias"]]
    assert layers(nn.ReLU()) == [[]]


NET = "from torch import nn\nmake = lambda k, h, w: nn.Sequential(nn.Flatten(), {})"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Write a module of the user's into the current folder: ``here(text)``."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "users_network.py").write_text(textwrap.dedent(text))

    yield write
    sys.modules.pop("users_network", None)


def test_a_network_of_the_users_from_the_current_folder(here):
    here("""
        from torch import nn

        def make(classes, height, width):
            return nn.Sequential(nn.Flatten(), nn.Linear(height * width, classes, bias=False))
    """)
    path = list(sys.path)
    module = build_model("users_network:make", 3, 8, 10)
    assert module[1].weight.shape == (3, 80)
    assert sys.path == path


def test_a_factory_may_import_its_neighbours_when_called(here, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "users_parts", raising=False)
    (tmp_path / "users_parts.py").write_text("from torch import nn\nclasses_of = nn.LazyLinear\n")
    here("""
        from torch import nn

        def make(classes, height, width):
            from users_parts import classes_of

            return nn.Sequential(nn.Flatten(), classes_of(classes))
    """)
    module = build_model("users_network:make", 3, 8, 10)
    sys.modules.pop("users_parts")
    assert module[1].weight.shape == (3, 80)
    assert all(each.training for each in module.modules())


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "users_network:make", r"expected a function 'make' in a Python module 'users_network' .* no attribute"),
        ("", "no_such_network:make", r"module 'no_such_network' .* No module named .*; run where the module lies"),
        ("", ":make", "expected a function 'make' in a Python module ''"),
        ("", "users_network:", "expected a function '' in a Python module 'users_network'"),
        ("import no_such_library", "users_network:make", "No module named 'no_such_library'"),
        ("make = 3", "users_network:make", "expected a function for the model 'users_network:make', found int"),
        ("make = lambda *sizes: 3", "users_network:make", r"return a torch\.nn\.Module, found int"),
        ("make = lambda classes: 3", "users_network:make", r"users_network:make\(10, 28, 28\) .* raised TypeError"),
        ("make = lambda *sizes: sizes[9]", "users_network:make", "but it raised IndexError"),
        ("make = (", "users_network:make", "users_network"),
        ("1 / 0", "users_network:make", "division by zero"),
        (
            NET.format("nn.Linear(784, k + 1)"),
            "users_network:make",
            r"logits \(2, 10\) for two images, found \(2, 11\)",
        ),
        (
            NET.format("nn.Linear(28, k)"),
            "users_network:make",
            r"takes images \(N, 1, 28, 28\), but it raised RuntimeError",
        ),
        (NET.format("nn.Module()"), "users_network:make", "NotImplementedError"),
    ],
)
def test_what_makes_no_network_is_refused_in_one_line(here, text, name, says):
    here(text)
    with pytest.raises(ConfigError, match=says) as refusal:
        build_model(name, 10)
    assert "\n" not in str(refusal.value)


def test_bad_requests():
    with pytest.raises(ConfigError, match="out of cnn, quillnet, rnn or module:factory, found 'resnet'"):
        build_model("resnet", 10)
    for name in MODELS:
        for wrong in ((10, 28, 5), (10, 5, 28), (0, 28, 28)):
            with pytest.raises(SpecError, match="6 x 6"):
                build_model(name, *wrong)
