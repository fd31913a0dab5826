"""A moving average of the weights, which generalizes better than the last step's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of ``module`` that ``update_parameters`` draws after it: average = decay x old + (1 - decay) x new.

    The decay begins lower, min(decay, (1 + n) / (10 + n)) after n steps, so that short trainings are not left with
    fresh weights: TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``. Buffers are averaged too.
    """
    return AveragedModel(module, multi_avg_fn=_moving(decay), use_buffers=True)


def _moving(decay: float) -> Callable[[Tensors, Tensors, torch.Tensor | int], None]:
    @torch.no_grad()
    def move(average: Tensors, new: Tensors, steps: torch.Tensor | int) -> None:
        n = int(steps)
        share = 1 - min(decay, (1 + n) / (10 + n))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, new, share)
        else:  # counters of batches
            torch._foreach_copy_(average, new)

    return move
