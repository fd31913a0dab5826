"""Dropout whose random numbers do not hold up a CPU."""

from __future__ import annotations

import torch
from torch import nn

_VALUES = 256  # of a byte


class Dropout(nn.Dropout):
    """``nn.Dropout`` that draws one byte for each value on a CPU, where torch draws a double, one after another.

    The network ``cnn`` spends a quarter of its steps on those draws. The share dropped is ``p`` to the next 1/256, and
    what is kept is scaled by the share that was drawn, so that the mean stays. Elsewhere it is ``nn.Dropout``.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, any shape, with a random share of zeros while training; as it is in evaluation."""
        dropped = round(self.p * _VALUES)
        if not self.training or x.device.type != "cpu" or dropped in (0, _VALUES):
            return super().forward(x)
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()] >= dropped
        factor = torch.empty_like(x)  # in the order of its memory, be that channels last
        torch.mul(kept, _VALUES / (_VALUES - dropped), out=factor.as_strided(kept.shape, (1,)))
        return x * factor
