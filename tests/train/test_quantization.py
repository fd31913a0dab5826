"""Fake quantization against numbers by hand and ONNX's operators; folded norms against the network as it was."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from quillrt.runtime.errors import ConfigError
from quillrt.train.config import TrainConfig
from quillrt.train.finetuning import finetune
from quillrt.train.models import build_model
from quillrt.train.quantization import Steps, make_aware, rounded_weight, steps_of
from quillrt.train.seeding import seeded
from quillrt.train.training import Surroundings

CONFIG = TrainConfig(epochs=2, lr=1e-3, device="cpu")
WIDE = Steps(-2.0, 6.0, "uint8")


@pytest.fixture
def batch():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(5, 1, 28, 28)).astype(np.float32))


@pytest.fixture
def quillnet():
    """A network whose norms have seen images, so that folding changes something."""
    with seeded(0):
        module = build_model("quillnet", 10).train()
        with torch.no_grad():
            for _ in range(3):
                module(torch.randn(32, 1, 28, 28) * 2 + 1)
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


@pytest.mark.parametrize(
    ("steps", "values", "expected"),
    [
        # Steps of 1: 2.5 and 3.5 go to the even neighbour, 300 and -200 are clipped.
        (Steps(-127.0, 100.0, "int8"), [2.5, 3.5, -0.4, 300, -200], [2, 4, 0, 127, -128]),
        # Steps of 2, zero point 10.
        (Steps(-20.0, 490.0, "uint8"), [3.1, -21, 1000, 0, 5], [4, -20, 490, 0, 4]),
        # The range is widened to hold zero: steps of 2 over 0 to 510.
        (Steps(100.0, 510.0, "uint8"), [1.5, 100, 511], [2, 100, 510]),
        (Steps(0.0, 0.0, "int8"), [0.0], [0.0]),
    ],
)
def test_activations_by_hand(steps, values, expected):
    assert steps.rounded(torch.tensor(values, dtype=torch.float32)).tolist() == expected


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_activations_are_those_of_onnx(kind):
    low, high = -1.3, 4.1
    scale = np.float32((high - low) / 255 if kind == "uint8" else high / 127)
    zero = np.array(round(-low / float(scale)) if kind == "uint8" else 0, kind)
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in "xy"]
    constants = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("s", scale), ("z", zero))]
    graph = onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    values = np.random.default_rng(1).normal(0, 3, 1000).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": values})
    np.testing.assert_allclose(Steps(low, high, kind).rounded(torch.from_numpy(values)), expected, atol=1e-6)


def test_weights_have_steps_for_each_output_channel():
    weight = torch.tensor([[[[127.0, 2.5]]], [[[1.27, -0.026]]], [[[0.0, 0.0]]]])
    expected = torch.tensor([[[[127.0, 2.0]]], [[[1.27, -0.03]]], [[[0.0, 0.0]]]])
    torch.testing.assert_close(rounded_weight(weight), expected)


def test_gradients_pass_but_where_values_are_clipped():
    values = torch.tensor([-3.0, -1.0, 5.0, 7.0], requires_grad=True)
    WIDE.rounded(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 0]


def test_folding_alone_changes_no_answer(quillnet, batch):
    before = quillnet(batch)
    make_aware(quillnet, {"head": WIDE})  # all convolutions stay as they are, but for their folded norms
    quillnet.head.__class__ = nn.Linear
    torch.testing.assert_close(quillnet(batch), before, rtol=1e-4, atol=1e-4)
    assert torch.equal(quillnet.block3.norm.weight, torch.ones(64))
    assert not torch.equal(quillnet.block3.norm.bias, torch.zeros(64))


def test_fine_steps_change_answers_little_and_coarse_ones_much(quillnet, batch):
    names, seen = ("block1.conv", "block2.conv", "head"), {}

    def see(name):
        def hook(_, inputs):
            seen[name] = (inputs[0].min().item(), inputs[0].max().item())

        return hook

    for name in names:
        quillnet.get_submodule(name).register_forward_pre_hook(see(name))
    before = quillnet(batch)
    make_aware(quillnet, {name: Steps(*seen[name], "uint8") for name in names})
    fine = (quillnet(batch) - before).abs().mean()
    for name in names:
        quillnet.get_submodule(name).steps = Steps(-2000.0, 2000.0, "uint8")
    coarse = (quillnet(batch) - before).abs().mean()
    assert 0 < fine < 0.1 * before.std()
    assert coarse > 10 * fine
    assert steps_of(quillnet).keys() == set(names)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3)

    def forward(self, image):
        x = self.norm(self.conv(image))
        return self.fc(x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "found none to train for it"),
        (Branching().eval(), "a forward that torch.fx can follow"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False), nn.Flatten()).eval(),
            "one without .affine=False.",
        ),
    ],
)
def test_what_cannot_be_trained_for_int8(module, message):
    with pytest.raises(ConfigError, match=message):
        make_aware(module, dict.fromkeys(("conv", "fc", "0"), WIDE))


def test_an_unknown_kind():
    with pytest.raises(ConfigError, match="out of uint8, int8, found float8"):
        Steps(0, 1, "float8")


def test_the_checkpoint_is_of_the_same_network_and_says_its_steps(untrained, few_digits):
    steps = {"conv1": Steps(-0.5, 2.9, "uint8"), "fc2": Steps(0.0, 5.0, "uint8")}
    tuned = finetune(untrained, few_digits, CONFIG, qat=steps)
    assert {name: tensor.shape for name, tensor in tuned.weights.items()} == {
        name: tensor.shape for name, tensor in untrained.weights.items()
    }
    assert tuned.training["qat"] == {
        "conv1": {"low": -0.5, "high": 2.9, "kind": "uint8"},
        "fc2": {"low": 0.0, "high": 5.0, "kind": "uint8"},
    }
    assert type(tuned.module().get_submodule("conv1")) is nn.Conv2d


def test_resumed_with_the_same_steps_it_is_the_same(untrained, few_digits, tmp_path):
    steps = {name: Steps(-1.0, 4.0, "int8") for name in ("conv1", "conv2", "fc1")}
    whole = finetune(untrained, few_digits, CONFIG, qat=steps)
    state = tmp_path / "x.state"

    class StopError(Exception):
        pass

    def stop(checkpoint):
        raise StopError

    with pytest.raises(StopError):
        finetune(untrained, few_digits, CONFIG, surroundings=Surroundings(state=state), on_epoch=stop, qat=steps)
    resumed = Surroundings(state=state, resume=True)
    others = {**steps, "conv1": replace(steps["conv1"], high=5.0)}
    with pytest.raises(Exception, match="rounded"):
        finetune(untrained, few_digits, CONFIG, surroundings=resumed, qat=others)
    again = finetune(untrained, few_digits, CONFIG, surroundings=resumed, qat=steps)
    assert all(torch.equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_what_is_called_twice_is_not_folded_into_one_of_its_places():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)
            self.own, self.named = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, image):
            twice = self.second(self.conv(self.first(self.conv(image))))
            return self.named(input=self.own(twice))

    torch.manual_seed(0)
    network = Shared().eval()
    for norm in (network.first, network.second, network.named):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.weight, 0.5, 2)
    image = torch.randn(3, 2, 5, 5)
    with torch.no_grad():
        expected = network(image)
        make_aware(network, dict.fromkeys(("conv", "own"), Steps(-20.0, 20.0, "int8")))
        error = (network(image) - expected).abs().max()
    assert error < 0.5  # steps of 20 / 127; a norm folded twice would be off by its whole scale
    assert isinstance(network.first, nn.BatchNorm2d)
    assert not isinstance(network.named, nn.BatchNorm2d)
