import pytest
import torch
from torch import nn

from quillrt.train.averaging import averaged


def follow(module, average, values):
    for value in values:
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.fill_(value)
        average.update_parameters(module)


@pytest.mark.parametrize(("decay", "third"), [(0.999, 10 / 11 + 4.5), (0.2, 8 / 11 + 4.8)])
def test_three_steps_by_hand(decay, third):
    """The first is taken as it is; then 2 / 11 of the old and 9 / 11 of the new; then 3 / 12 of the old, or ``decay``
    once that is less."""
    module = nn.Linear(3, 2)
    average = averaged(module, decay)
    found = []
    for value in (2, 4, 6):
        follow(module, average, [value])
        assert average.module.weight.unique().numel() == 1
        found.append(average.module.weight[0, 0].item())
        assert average.module.bias[0].item() == found[-1]
    assert found == pytest.approx([2, 40 / 11, third])


def test_buffers_are_averaged_and_counters_copied():
    module = nn.BatchNorm1d(4)
    average = averaged(module, 0.999)
    follow(module, average, [2, 4])
    for name in ("weight", "running_mean", "running_var"):
        assert getattr(average.module, name).tolist() == pytest.approx([40 / 11] * 4)
    assert average.module.num_batches_tracked.item() == 4


def test_long_after_the_start_the_decay_is_the_one_asked_for():
    module = nn.Linear(1, 1)
    average = averaged(module, 0.9)
    follow(module, average, [1] * 200)
    follow(module, average, [2])
    assert average.module.weight.item() == pytest.approx(1.1)


def test_the_network_itself_is_left_alone():
    module = nn.Linear(1, 1)
    average = averaged(module, 0.9)
    follow(module, average, [1, 2, 3])
    assert module.weight.item() == 3
    assert all(a is not b for a, b in zip(module.parameters(), average.module.parameters(), strict=True))
