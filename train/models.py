"""The networks by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from quillrt.runtime.errors import ConfigError, SpecError

from .dropout import Dropout

_SMALLEST = 6  # rows and columns that two convolutions without padding and a pooling leave something of


class Cnn(nn.Module):
    """Two 3 x 3 convolutions, a pooling by 2, two linear layers: PyTorch's MNIST example, giving logits.

    Source: pytorch/examples, mnist/main.py. Every step is a module, so that an exporter can name each node by its own.
    """

    def __init__(self, classes: int, height: int = 28, width: int = 28) -> None:
        super().__init__()
        pooled = (height - 4) // 2 * ((width - 4) // 2)  # each convolution takes a border of one pixel
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = Dropout(0.25)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * pooled, 128)
        self.relu3 = nn.ReLU(inplace=True)
        self.dropout2 = Dropout(0.5)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K) for images (N, 1, H, W); the shapes below are those of 28 x 28."""
        x = self.relu1(self.conv1(image))  # (N, 32, 26, 26)
        x = self.relu2(self.conv2(x))  # (N, 64, 24, 24)
        x = self.pool(x)  # (N, 64, 12, 12)
        if self.training and x.requires_grad:
            # Flatten hands back a gradient by channels, for which torch's pooling takes seven times as long.
            x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        x = self.dropout1(x)
        x = self.relu3(self.fc1(self.flatten(x)))  # (N, 9216) to (N, 128)
        logits: torch.Tensor = self.fc2(self.dropout2(x))  # (N, K)
        return logits


class ConvBlock(nn.Sequential):
    """A 3 x 3 convolution, batch norm, ReLU: one kernel in every engine, for the norm folds into the convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)  # the norm brings the bias
        self.norm = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)


class QuillNet(nn.Module):
    """Seven convolution blocks in three resolutions, a mean over the field, one linear layer: made for edge engines.

    Nothing but convolutions, batch norms that fold, ReLUs, poolings and one product; all widths are multiples of 16,
    the granule of int8 kernels.
    """

    def __init__(self, classes: int, height: int = 28, width: int = 28) -> None:
        super().__init__()
        self.block1 = ConvBlock(1, 32)
        self.block2 = ConvBlock(32, 32)
        self.pool1 = nn.MaxPool2d(2)
        self.block3 = ConvBlock(32, 64)
        self.block4 = ConvBlock(64, 64)
        self.pool2 = nn.MaxPool2d(2)
        self.block5 = ConvBlock(64, 96)
        self.block6 = ConvBlock(96, 96)
        self.block7 = ConvBlock(96, 96)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = Dropout(0.2)
        self.head = nn.Linear(96, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K) for images (N, 1, H, W); the shapes below are those of 28 x 28."""
        x = self.pool1(self.block2(self.block1(image)))  # (N, 32, 14, 14)
        x = self.pool2(self.block4(self.block3(x)))  # (N, 64, 7, 7)
        x = self.block7(self.block6(self.block5(x)))  # (N, 96, 7, 7)
        logits: torch.Tensor = self.head(self.dropout(self.flatten(self.mean(x))))  # (N, 96) to (N, K)
        return logits


class Rnn(nn.Module):
    """Two layers of GRU that read the image row by row; what the last row leaves decides.

    Source of the reading order: Le, Jaitly, Hinton, "A simple way to initialize recurrent networks of rectified linear
    units", arXiv 1504.00941, who read MNIST pixel by pixel.
    """

    def __init__(self, classes: int, height: int = 28, width: int = 28) -> None:
        super().__init__()
        self.rows = nn.Flatten(1, 2)  # one channel: the rows become the steps
        self.gru = nn.GRU(width, 128, num_layers=2, batch_first=True)
        self.dropout = Dropout(0.2)
        self.head = nn.Linear(128, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K) for images (N, 1, H, W)."""
        states, _ = self.gru(self.rows(image))  # (N, H, W) to (N, H, 128)
        logits: torch.Tensor = self.head(self.dropout(states[:, -1]))  # (N, K)
        return logits


MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {"cnn": Cnn, "quillnet": QuillNet, "rnn": Rnn}


def build_model(name: str, classes: int, height: int = 28, width: int = 28) -> nn.Module:
    """Return the network ``name`` with fresh weights: images (N, 1, height, width) to logits (N, classes).

    Args:
        name: one of ``MODELS``, or ``module:factory`` for a network of the user's: ``factory(classes, height, width)``
            in a module that Python finds, the current folder included, returns it. Its code runs.
        classes: K.
        height: of the images.
        width: of the images.

    Raises:
        ConfigError: no network has this name, or the user's factory cannot be had or makes no network.
        SpecError: fewer than one class, or images too small for two convolutions and a pooling.
    """
    if name not in MODELS and ":" not in name:
        raise ConfigError(f"expected a model out of {', '.join(MODELS)} or module:factory, found {name!r}")
    if classes < 1 or min(height, width) < _SMALLEST:
        raise SpecError(
            f"expected classes and images of at least {_SMALLEST} x {_SMALLEST}, found {classes} and {height} x {width}"
        )
    if name in MODELS:
        return MODELS[name](classes, height, width)
    with _here_on_path():
        return _users_model(name, classes, height, width)


def _users_model(name: str, classes: int, height: int, width: int) -> nn.Module:
    """Return the network of a factory once it has answered for two blank images."""
    try:
        module = _factory(name)(classes, height, width)
        if not isinstance(module, nn.Module):
            raise ConfigError(f"expected {name} to return a torch.nn.Module, found {type(module).__name__}")
        with torch.no_grad():
            answer = module.eval()(torch.zeros(2, 1, height, width))
        module.train()
    except ConfigError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(
            f"expected {name}({classes}, {height}, {width}) to return a network that takes images "
            f"(N, 1, {height}, {width}), but it raised {error!r}"
        ) from error
    if not isinstance(answer, torch.Tensor) or answer.shape != (2, classes):
        found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ConfigError(f"expected {name} to give logits (2, {classes}) for two images, found {found}")
    return module


def _factory(name: str) -> Callable[[int, int, int], object]:
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise ConfigError(
            f"expected a function {attribute!r} in a Python module {module_name!r} for the model {name!r}, "
            f"but {error}; run where the module lies, or name it in PYTHONPATH"
        ) from error
    if not callable(factory):
        raise ConfigError(f"expected a function for the model {name!r}, found {type(factory).__name__}")
    found: Callable[[int, int, int], object] = factory
    return found


@contextmanager
def _here_on_path() -> Iterator[None]:
    """Let Python find modules in the current folder, as it does for scripts, but not for installed commands."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:  # the user's module may have changed it
            sys.path.remove(here)


def layers(module: nn.Module) -> list[list[str]]:
    """Return the names of the parameters by layer, from the image to the logits.

    A layer is a direct child of the network with parameters, in the order in which they were made; parameters of the
    network itself count to the first one.
    """
    names: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        child, _, rest = name.partition(".")
        names.setdefault(child if rest else "", []).append(name)
    own = names.pop("", [])
    groups = list(names.values())
    return [own + groups[0], *groups[1:]] if groups else [own]
