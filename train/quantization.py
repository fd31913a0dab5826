"""Quantization-aware training: the network computes as its INT8 engine will, and learns to live with it.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv 1712.05877: weights and activations are rounded in the forward pass, gradients pass as if they were not, but for
values that are clipped. Activations have constant steps, as the engine wants them; weights have steps of their largest
value for each output channel, at every step of the training anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from quillrt.runtime.errors import ConfigError

KINDS = ("uint8", "int8")
_LARGEST = 127  # int8's, on the side of which there is one less
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Steps:
    """How an activation is rounded.

    Attributes:
        low: the least value that is not clipped.
        high: the largest.
        kind: ``uint8`` with a zero point over ``low`` to ``high``, or ``int8`` symmetric about zero.

    Raises:
        ConfigError: another kind.
    """

    low: float
    high: float
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"expected activations out of {', '.join(KINDS)}, found {self.kind}")

    def rounded(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``values`` as these steps hold them."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if self.kind == "int8":
            scale = max(-low, high) / _LARGEST or 1.0
            return torch.fake_quantize_per_tensor_affine(values.float(), scale, 0, -_LARGEST - 1, _LARGEST)
        scale = (high - low) / 255 or 1.0
        return torch.fake_quantize_per_tensor_affine(values.float(), scale, round(-low / scale), 0, 255)


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight, output channels first, in int8 steps of its own for each of them."""
    largest = weight.detach().float().abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest / _LARGEST, 1.0)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, 0, -_LARGEST, _LARGEST)


class _QuantizedConv2d(nn.Conv2d):
    """A convolution whose input and weight are rounded."""

    steps: Steps

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - a forward may give it by torch's name
        found: torch.Tensor = self._conv_forward(self.steps.rounded(input), rounded_weight(self.weight), self.bias)
        return found


class _QuantizedLinear(nn.Linear):
    """A product whose input and weight are rounded."""

    steps: Steps

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return nn.functional.linear(self.steps.rounded(input), rounded_weight(self.weight), self.bias)


class _Bias(nn.Module):
    """What is left of a batch norm that is folded into the layer before; no statistics, no scale."""

    bias: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return input + self.bias.reshape(-1, *(1,) * (input.dim() - 2))


_AWARE = {nn.Conv2d: _QuantizedConv2d, nn.Linear: _QuantizedLinear}


def make_aware(module: nn.Module, steps: Mapping[str, Steps]) -> None:
    """Let convolutions and linear layers of ``module`` compute in INT8's steps, with batch norms folded before.

    Names and shapes of the weights stay. A folded norm keeps its bias alone: it divides by one and multiplies by one.

    Args:
        module: the network, in eval mode.
        steps: of each layer's input, by the layer's name.

    Raises:
        ConfigError: no layer has steps, or the network has batch norms and torch.fx cannot follow its forward.
    """
    layers = {name: each for name, each in module.named_modules() if name in steps and type(each) in _AWARE}
    if not layers:
        raise ConfigError("expected convolutions or linear layers that INT8 computes, found none to train for it")
    for layer, norm in list(_pairs(module)):
        _fold(layer, norm)
    for name, layer in layers.items():
        layer.__class__ = _AWARE[type(layer)]
        layer.steps = steps[name]


def steps_of(module: nn.Module) -> dict[str, Steps]:
    """Return how the input of each layer is rounded that ``make_aware`` has changed, by the layer's name."""
    aware = (_QuantizedConv2d, _QuantizedLinear)
    return {name: each.steps for name, each in module.named_modules() if isinstance(each, aware)}


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Conv2d | nn.Linear, nn.Module]]:
    """Yield each layer that a batch norm alone reads, and that norm."""
    if not any(isinstance(each, _NORMS) for each in module.modules()):
        return
    try:
        traced = torch.fx.symbolic_trace(module)
    except Exception as error:  # it runs the user's forward on stand-ins
        raise ConfigError(
            f"expected a forward that torch.fx can follow, to fold batch norms for --qat, but {error!r}"
        ) from error
    modules = dict(module.named_modules())
    # What is called twice stands before or behind different layers: it cannot be folded into one of them.
    calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for node in traced.graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, _NORMS) or not norm.track_running_stats:
            continue
        before = node.args[0] if node.args else node.kwargs["input"]
        layer = modules.get(str(before.target)) if before.op == "call_module" else None
        once = calls[str(node.target)] == calls[str(before.target)] == 1
        if isinstance(layer, nn.Conv2d | nn.Linear) and len(before.users) == 1 and once:
            yield layer, norm


@torch.no_grad()
def _fold(layer: nn.Conv2d | nn.Linear, norm: nn.Module) -> None:
    assert isinstance(norm, _NORMS)  # noqa: S101 - for the type checker
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # noqa: S101, PT018 - it tracks them
    if norm.weight is None:
        raise ConfigError("expected batch norms with weight and bias for --qat, found one without (affine=False)")
    factor = norm.weight / torch.sqrt(variance + norm.eps)
    offset = norm.bias - mean * factor
    layer.weight.mul_(factor.reshape(-1, *(1,) * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        offset += layer.bias * factor
        layer.bias.zero_()
    norm.bias.copy_(offset)
    norm.weight.fill_(1)
    norm.weight.requires_grad_(False)
    mean.zero_()
    variance.fill_(1 - norm.eps)
    norm.__class__ = _Bias  # type: ignore[assignment]
