"""What moves the weights: parameters in groups by layer and kind, and the optimizer over them."""

from __future__ import annotations

import torch
from torch import nn

from quillrt.runtime.errors import ConfigError

from .config import TrainConfig
from .models import layers


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer over the parameters that want a gradient.

    Each layer's rate is ``layer_decay`` times that of the layer after it. Only weights of two dimensions and more
    decay: a bias or the scale of a norm pulled to zero helps nothing.

    Raises:
        ConfigError: all parameters are frozen.
    """
    parameters = dict(module.named_parameters())
    chosen: dict[tuple[float, float], list[nn.Parameter]] = {}  # by rate and decay: a step costs a call for each group
    for distance, names in enumerate(reversed(layers(module))):
        lr = config.lr * config.layer_decay**distance
        for parameter in (parameters[name] for name in names):
            if parameter.requires_grad:
                decay = config.weight_decay if parameter.ndim > 1 else 0.0
                chosen.setdefault((lr, decay), []).append(parameter)
    groups = [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in chosen.items()]
    if not groups:
        raise ConfigError("expected parameters to train, but all are frozen; freeze fewer")
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov)
    return torch.optim.AdamW(groups)
