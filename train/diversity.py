"""How far images of one class lie apart, so that a generator can be held to it: it shall not draw one image per class.

Without it the generators here ended that way. The thought is that of Mao et al., "Mode seeking generative adversarial
networks for diverse image synthesis", arXiv 1903.05628; here the real images say how far apart is far enough.
"""

from __future__ import annotations

import torch


def spread(images: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return (classes,) float32: the mean absolute difference of pixels between random pairs of each class.

    Each image is in two pairs. A class of one image has 0.

    Args:
        images: (N, 1, H, W) uint8, 0..255; the result is in the generator's range, -1..1.
        labels: (N,) int64; every class occurs.
        classes: their number.
    """
    found = []
    for label in range(classes):
        members = torch.nonzero(labels == label)[:, 0]
        mine = images[members[torch.randperm(len(members)).to(members.device)]].float() / 127.5
        found.append((mine - mine.roll(1, 0)).abs().mean())
    return torch.stack(found)


def shortfall(pairs: torch.Tensor, labels: torch.Tensor, real_spread: torch.Tensor) -> torch.Tensor:
    """Return 0 where neighbours differ as much as real images do in the mean, up to 1 where they are the same.

    Args:
        pairs: (2 P, 1, H, W) generated images of -1..1; each two that follow each other are of one class.
        labels: (2 P,) int64.
        real_spread: (classes,), see ``spread``.
    """
    first, second = pairs[::2], pairs[1::2]
    apart = (first - second).abs().mean((1, 2, 3))  # (P,)
    expected = real_spread[labels[::2]]
    ratio = torch.where(expected > 0, apart / expected.clamp(min=1e-6), 1.0)
    return (1 - ratio.mean()).clamp(min=0)
