"""A training in the middle: all that it takes to go on as if nothing had happened."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quillrt.runtime.errors import CheckpointError
from quillrt.runtime.files import write_bytes
from quillrt.runtime.imageset import ImageSet

from .config import TrainConfig
from .datasets import Splits
from .freezing import Freezing
from .pth import load_plain
from .quantization import steps_of
from .teaching import Teacher

_SCHEMA = 1


def fingerprint(
    module: nn.Module, splits: Splits, config: TrainConfig, freezing: Freezing, teacher: Teacher | None
) -> dict[str, Any]:
    """Return what must be the same for a training to go on: settings, data, the network as it started, teacher."""
    return {
        **json.loads(json.dumps({**asdict(config), **asdict(freezing)})),
        "classes": list(splits.classes),
        "training images": len(splits.train),
        "training data": _crc_of_images(splits.train),
        "validation data": _crc_of_images(splits.validation),
        "preprocessing": json.loads(json.dumps(asdict(splits.preprocessing))),
        "network": {name: list(tensor.shape) for name, tensor in module.state_dict().items()},
        "start weights": _crc_of_weights(module),
        "rounded": {name: asdict(steps) for name, steps in steps_of(module).items()},
        "teacher": teacher and [teacher.weight, teacher.temperature, _crc_of_weights(teacher.module)],
    }


def _crc_of_images(images: ImageSet) -> int:
    return zlib.crc32(images.images.tobytes(), zlib.crc32(images.labels.tobytes()))


def _crc_of_weights(module: nn.Module) -> int:
    crc = 0
    for tensor in module.state_dict().values():
        crc = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes(), crc)
    return crc


def save_state(path: Path, mark: dict[str, Any], state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, containers of them) and the fingerprint ``mark``, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    data = io.BytesIO()
    torch.save({"schema": _SCHEMA, "mark": mark, "state": state}, data)
    write_bytes(path, data.getvalue())


def load_state(path: Path, mark: dict[str, Any]) -> dict[str, Any]:
    """Return the state that ``save_state`` wrote for the same fingerprint; nothing in the file is run as code.

    Raises:
        CheckpointError: no such file, a damaged one, or of another training; the message says what differs.
    """
    try:
        saved = load_plain(path)
        schema, found, state = saved["schema"], dict(saved["mark"]), dict(saved["state"])
    except OSError as error:
        raise CheckpointError(
            f"expected an interrupted training at {path}, but {error.strerror or error}; leave --resume out"
        ) from error
    except Exception as error:  # torch.load may raise anything on a damaged file
        raise CheckpointError(f"expected an interrupted training, but {path} is damaged; leave --resume out") from error
    if schema != _SCHEMA:
        raise CheckpointError(f"expected a training state of schema {_SCHEMA}, found {schema} in {path}; train anew")
    differing = sorted(key for key in mark.keys() | found.keys() if mark.get(key) != found.get(key))
    if differing:
        shown = ", ".join(
            f"{key} {_short(found.get(key))} there and {_short(mark.get(key))} here" for key in differing[:3]
        )
        raise CheckpointError(
            f"expected the training that {path} was interrupted in, but they differ: {shown}; "
            "give the same options or leave --resume out"
        )
    return state


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else text[:37] + "…"
