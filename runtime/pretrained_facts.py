"""What a pretrained model's files say of it, without torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundle import Bundle
from .errors import CheckpointError
from .manifest import Entry
from .pretrained import find

# What torch's BatchNorm layers keep beside their parameters (torch/nn/modules/batchnorm.py).
_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")


@dataclass(frozen=True)
class Facts:
    """A pretrained model in short.

    Attributes:
        name: as in ``models:NAME``.
        network: what was trained.
        dataset: what it was trained on.
        labels: its classes.
        parameters: number of trained values in the checkpoint.
        checkpoint_bytes: size of NAME.safetensors.
        bundle_bytes: size of NAME.quill.
        measured: for each file of the bundle and backend that ran it where it was compiled: file, precision, backend,
            dataset, part, n, accuracy (0..1) and agreement with the FP32 graph (0..1).
    """

    name: str
    network: str
    dataset: str
    labels: tuple[str, ...]
    parameters: int
    checkpoint_bytes: int
    bundle_bytes: int
    measured: tuple[Mapping[str, Any], ...]


def facts(name: str) -> Facts:
    """Return what the checkpoint and the bundle of the model ``name`` say.

    Raises:
        ConfigError: no model has this name, or this install lacks one of its files.
        BundleError: the bundle is damaged.
        CheckpointError: the checkpoint is damaged.
    """
    checkpoint, path = find(name, ".safetensors"), find(name, ".quill")
    manifest = Bundle.open(path).manifest
    return Facts(
        name=name,
        network=str(manifest.source.get("model", "")),
        dataset=str(manifest.training.get("dataset", "")),
        labels=manifest.model.labels,
        parameters=_parameters(checkpoint),
        checkpoint_bytes=checkpoint.stat().st_size,
        bundle_bytes=path.stat().st_size,
        measured=tuple(row for entry in manifest.entries for row in _rows(entry)),
    )


def _rows(entry: Entry) -> list[dict[str, Any]]:
    precision = entry.precision.value if entry.precision else ""
    return [
        {"file": entry.path, "precision": precision, "backend": backend, **found}
        for backend, found in entry.measured.items()
    ]


def _parameters(checkpoint: Path) -> int:
    """Return how many values were trained, from the header: its length in 8 bytes, little-endian, then JSON.

    Source: "Format" in the README of huggingface/safetensors.

    Raises:
        CheckpointError: there is no such header.
    """
    data = checkpoint.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        shapes = {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"expected a checkpoint (.safetensors) at {checkpoint}, but it is damaged ({error}); install quillrt again"
        ) from error
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BUFFERS))
