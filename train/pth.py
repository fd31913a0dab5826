"""Weights from PyTorch's own files, by name and shape."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quillrt.runtime.errors import CheckpointError
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.zips import check_stored

from .checkpoint import Checkpoint
from .models import build_model
from .seeding import seeded

SUFFIXES = (".pth", ".pt")
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's prefixes of every name
_NESTS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights among other things


@dataclass(frozen=True)
class Matched:
    """What of a file fitted a network.

    Attributes:
        checkpoint: the network with what fitted, the rest fresh.
        fresh: names in the network that the file lacks or has in another shape.
        reshaped: those of another shape, with the shape in the file and the one in the network.
        unused: names in the file that the network lacks.
    """

    checkpoint: Checkpoint
    fresh: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]


def load_pth(path: Path, model: str, spec: ModelSpec, seed: int = 0) -> Matched:
    """Return the network ``model`` for ``spec`` with the weights of a PyTorch file; nothing in the file is run as code.

    Args:
        path: a state dict that ``torch.save`` wrote, also one level down, as ``{"state_dict": ...}``.
        model: the network's name, see ``build_model``.
        spec: what goes in and comes out.
        seed: of the weights that the file does not give.

    Raises:
        CheckpointError: no file, no state dict, nothing in it fits, or what fits are no finite floating-point numbers.
        ConfigError: no network has this name.
    """
    given = _state_dict(path)
    recipe = spec.preprocessing
    with seeded(seed):
        module = build_model(model, len(spec.labels), recipe.height, recipe.width)
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise CheckpointError(
            f"expected weights of {model} in {path}, but none has a name and shape that fits: "
            f"it holds {_some(given)}, {model} has {_some(own)}; choose another --model"
        )
    for name, tensor in fitting.items():
        if own[name].is_floating_point() and not (tensor.is_floating_point() and tensor.isfinite().all()):
            kind = "NaN or infinity" if tensor.is_floating_point() else str(tensor.dtype)
            raise CheckpointError(
                f"expected finite floating-point weights in {path}, but {name} has {kind}; save the network again"
            )
    module.load_state_dict(fitting, strict=False)
    both = [name for name in own if name in given and name not in fitting]
    return Matched(
        Checkpoint.of(model, spec, module.state_dict(), {"pth": path.name}),
        tuple(name for name in own if name not in fitting),
        {name: (tuple(given[name].shape), tuple(own[name].shape)) for name in both},
        tuple(name for name in given if name not in own),
    )


def load_plain(path: Path) -> Any:
    """Return what ``torch.save`` wrote: tensors, numbers, text and containers of them, for nothing is run as code.

    Raises:
        OSError: the file cannot be read.
        pickle.UnpicklingError: it holds code or other objects.
        ValueError: it is a zip whose files are compressed or overlap, as ``torch.save`` writes none: a bomb.
        Exception: it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_stored(archive)
    return torch.load(path, map_location="cpu", weights_only=True)


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = load_plain(path)
    except OSError as error:
        raise CheckpointError(
            f"expected PyTorch weights at {path}, but {error.strerror or error}; check the path"
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"expected a state dict in {path}, found code, objects that are no tensors, or another kind of file; "
            "save it with torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # torch.load may raise anything on a damaged file
        raise CheckpointError(
            f"expected PyTorch weights, but {path} is damaged or another kind of file; get it again"
        ) from error
    if isinstance(content, dict):
        content = next((content[nest] for nest in _NESTS if isinstance(content.get(nest), dict)), content)
    tensors = (
        {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise CheckpointError(f"expected a state dict in {path}, found no tensors by name; save model.state_dict()")
    while wrapper := next((w for w in _WRAPPERS if all(name.startswith(w) for name in tensors)), ""):
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def _some(names: dict[str, Any]) -> str:
    return ", ".join(list(names)[:4]) + (", …" if len(names) > 4 else "")
