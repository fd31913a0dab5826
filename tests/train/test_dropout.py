"""Dropout by bytes: what it drops, what it keeps, and that nothing else changes."""

import pytest
import torch

from quillrt.train.dropout import Dropout
from quillrt.train.models import build_model


@pytest.mark.parametrize(("p", "share"), [(0.25, 64 / 256), (0.5, 128 / 256), (0.2, 51 / 256)])
def test_drops_its_share_and_keeps_the_mean(p, share):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1_000_000))
    dropped = (out == 0).double().mean().item()
    assert dropped == pytest.approx(share, abs=5 * (share * (1 - share) / 1e6) ** 0.5)
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - share)])


def test_drops_each_value_on_its_own():
    torch.manual_seed(0)
    zeros = (Dropout(0.5)(torch.ones(100_000, 16)) == 0).double()
    correlations = torch.corrcoef(zeros.T) - torch.eye(16, dtype=torch.float64)
    assert correlations.abs().max() < 5 / 100_000**0.5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_is_the_factor_and_the_layout_stays(layout):
    x = torch.randn(3, 5, 7, 9).to(memory_format=layout).requires_grad_()
    out = Dropout(0.25)(x)
    assert out.is_contiguous(memory_format=layout)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient * x, out)


def test_leaves_evaluation_alone():
    x = torch.randn(2, 3)
    assert Dropout(0.5).eval()(x) is x


def test_takes_what_is_no_whole_number_of_words():
    assert [Dropout(0.5)(torch.ones(n)).shape for n in (0, 1, 7, 8, 9)] == [(0,), (1,), (7,), (8,), (9,)]


def test_cnn_has_the_same_gradients_in_either_layout():
    torch.manual_seed(0)
    images = torch.randn(4, 1, 28, 28)
    module = build_model("cnn", 10).train()
    for dropout in (module.dropout1, module.dropout2):
        dropout.p = 0.0
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        module.zero_grad()
        module.to(memory_format=layout)(images).square().sum().backward()
        found.append([p.grad.clone(memory_format=torch.contiguous_format) for p in module.parameters()])
    torch.testing.assert_close(found[0], found[1])
