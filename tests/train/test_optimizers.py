import pytest
import torch
from torch import nn

from quillrt.runtime.errors import ConfigError
from quillrt.train.config import TrainConfig
from quillrt.train.models import MODELS, build_model
from quillrt.train.optimizers import build_optimizer


def settings(module, config):
    """Return rate and weight decay of every parameter by name; each must be in one group."""
    found = [
        (id(p), group["lr"], group["weight_decay"])
        for group in build_optimizer(module, config).param_groups
        for p in group["params"]
    ]
    names = {id(p): name for name, p in module.named_parameters()}
    assert len(found) == len({key for key, *_ in found})
    return {names[key]: (lr, decay) for key, lr, decay in found}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_trained_at_the_rate_asked_for(name):
    module = build_model(name, 10)
    found = settings(module, TrainConfig(lr=0.01, weight_decay=0.3))
    assert found.keys() == {name for name, _ in module.named_parameters()}
    assert {lr for lr, _ in found.values()} == {0.01}


def test_weights_decay_and_biases_and_norms_do_not():
    found = settings(build_model("quillnet", 10), TrainConfig(weight_decay=0.3))
    decaying = {name for name, (_, decay) in found.items() if decay == 0.3}
    assert decaying == {name for name in found if name.endswith("conv.weight") or name == "head.weight"}
    assert {decay for name, (_, decay) in found.items() if name not in decaying} == {0}


def test_layer_decay_by_hand():
    found = settings(build_model("cnn", 10), TrainConfig(lr=1.0, layer_decay=0.5))
    rates = {name: lr for name, (lr, _) in found.items()}
    for kind in ("weight", "bias"):
        assert [rates[f"{layer}.{kind}"] for layer in ("conv1", "conv2", "fc1", "fc2")] == [0.125, 0.25, 0.5, 1.0]


def test_frozen_parameters_are_left_out_but_count_as_layers():
    module = build_model("cnn", 10)
    module.fc1.requires_grad_(False)
    found = settings(module, TrainConfig(lr=1.0, layer_decay=0.5))
    assert not {name for name in found if name.startswith("fc1")}
    assert found["conv2.weight"][0] == 0.25


def test_nothing_to_train_is_refused():
    with pytest.raises(ConfigError, match="all are frozen"):
        build_optimizer(nn.Linear(2, 2).requires_grad_(False), TrainConfig())


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_by_hand(nesterov):
    """Gradients 1, then 2: torch's manual has v = m v + g, and steps by v or, looking ahead, by g + m v."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 10)
    optimizer = build_optimizer(module, TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5, nesterov=nesterov))
    for gradient in (1.0, 2.0):
        module.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    steps = (1 + 0.5, 2 + 0.5 * 2.5) if nesterov else (1, 2.5)
    assert module.weight.item() == pytest.approx(10 - 0.1 * sum(steps))


def test_adamws_decay_is_apart_from_the_gradient():
    """Without a gradient AdamW's weights shrink by lr x decay (Loshchilov, Hutter, arXiv 1711.05101); biases stay."""
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 2)
    nn.init.constant_(module.bias, 2)
    optimizer = build_optimizer(module, TrainConfig(lr=0.1, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert (module.weight.item(), module.bias.item()) == pytest.approx((1.9, 2))
