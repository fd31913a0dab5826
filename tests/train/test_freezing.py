import pytest
import torch
from torch import nn

from quillrt.runtime.errors import ConfigError
from quillrt.train.freezing import Freezing, frozen_norms
from quillrt.train.models import build_model

LAYERS = ("conv1", "conv2", "fc1", "fc2")  # of the cnn


def parameters(*layers):
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.fixture(scope="module")
def cnn():
    return build_model("cnn", 10)


def test_nothing_is_frozen_by_default(cnn):
    assert Freezing().frozen(cnn, 1) == frozenset()


@pytest.mark.parametrize("epoch", [1, 2, 99])
def test_head_only_leaves_the_last_layer(cnn, epoch):
    assert Freezing(head_only=True).frozen(cnn, epoch) == parameters(*LAYERS[:3])


@pytest.mark.parametrize(
    ("every", "epoch", "layers"),
    [(2, 1, 3), (2, 2, 3), (2, 3, 2), (2, 4, 2), (2, 5, 1), (2, 7, 0), (2, 8, 0), (2, 99, 0), (1, 2, 2), (1, 4, 0)],
)
def test_one_layer_joins_each_time_so_many_epochs_are_over(cnn, every, epoch, layers):
    assert Freezing(unfreeze_every=every).frozen(cnn, epoch) == parameters(*LAYERS[:layers])


def test_patterns_freeze_by_name_and_for_good(cnn):
    assert Freezing(("conv*", "fc?.bias")).frozen(cnn, 1) == parameters("conv1", "conv2") | {"fc1.bias", "fc2.bias"}
    assert Freezing(("conv1*",), unfreeze_every=1).frozen(cnn, 9) == parameters("conv1")
    assert Freezing(("fc2.bias",), head_only=True).frozen(cnn, 1) == parameters(*LAYERS[:3]) | {"fc2.bias"}
    assert Freezing(("CONV*",)).frozen(cnn, 1) == frozenset()


def test_a_block_is_one_layer():
    frozen = Freezing(unfreeze_every=1).frozen(build_model("quillnet", 10), 2)
    assert {name.split(".")[0] for name in frozen} == {f"block{i}" for i in range(1, 7)}


def test_a_network_of_one_layer_is_never_frozen():
    module = nn.Sequential(nn.Linear(2, 2))
    assert Freezing(head_only=True).frozen(module, 1) == Freezing(unfreeze_every=3).frozen(module, 1) == frozenset()


@pytest.mark.parametrize("wrong", [{"unfreeze_every": -1}, {"head_only": True, "unfreeze_every": 1}])
def test_contradictions_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"between unfreezings|found both; leave one out"):
        Freezing(**wrong)


def test_check_names_what_a_pattern_could_match(cnn):
    Freezing(("conv*",)).check(cnn, {"fc2.weight"}, 1)
    with pytest.raises(ConfigError, match=r"matches one of conv1\.weight, .*, fc2\.bias, found 'block\*'"):
        Freezing(("conv*", "block*")).check(cnn, set(), 1)


def test_check_keeps_patterns_off_a_new_head(cnn):
    with pytest.raises(ConfigError, match=r"leaves fresh weights alone, but '\*\.weight' freezes fc2\.weight$"):
        Freezing(("*.weight",)).check(cnn, {"fc2.weight", "fc2.bias"}, 1)


@pytest.mark.parametrize(("freezing", "epochs"), [(Freezing(head_only=True), 9), (Freezing(unfreeze_every=2), 6)])
def test_check_lets_nothing_fresh_stay_frozen(cnn, freezing, epochs):
    """The fourth layer from the logits joins in epoch 7, if one joins after every two."""
    with pytest.raises(ConfigError, match=r"expected fresh weights to be trained, but conv1\.weight stay frozen"):
        freezing.check(cnn, {"conv1.weight"}, epochs)
    Freezing(unfreeze_every=2).check(cnn, {"conv1.weight"}, 7)


def test_frozen_norms_are_those_without_a_trained_parameter():
    module = nn.Sequential(
        nn.BatchNorm1d(4, affine=False),  # goes with no layer
        nn.BatchNorm1d(4),  # frozen
        nn.BatchNorm1d(4),  # its bias is trained
        nn.BatchNorm1d(4, affine=False),  # goes with a layer that is trained
        nn.Linear(4, 4),
        nn.ReLU(),
        nn.BatchNorm1d(4, affine=False),  # goes with a layer that is not
        nn.BatchNorm1d(4, track_running_stats=False),  # has no statistics
        nn.LayerNorm(4),  # the same
    )
    module.requires_grad_(False)
    module[2].bias.requires_grad_()
    assert list(frozen_norms(module)) == [module[1], module[6]]


def test_statistics_of_frozen_norms_stay_in_eval_mode_only():
    """What ``frozen_norms`` is for: without eval mode the running mean moves though all parameters are frozen."""
    module = build_model("quillnet", 10).train().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.named_buffers()}
    norms = list(frozen_norms(module))
    assert len(norms) == 7
    for norm in norms[:6]:
        norm.eval()
    module(torch.randn(4, 1, 28, 28))
    moved = {name.split(".")[0] for name, tensor in module.named_buffers() if not torch.equal(tensor, before[name])}
    assert moved == {"block7"}
