"""Trained weights in a safetensors file, with what they mean in its metadata; never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from quillrt.runtime.errors import CheckpointError, QuillError, SpecError
from quillrt.runtime.files import write_bytes
from quillrt.runtime.spec import ModelSpec
from quillrt.runtime.strict_json import read_json
from quillrt.runtime.typed import checked

from .models import MODELS, build_model
from .seeding import seeded

SCHEMA = 1
_KEY = "quillrt"  # of the safetensors metadata, a map of strings to strings
_LONGEST_REASON = 300  # characters; torch names every tensor that does not fit


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
        model: its name in ``MODELS``.
        spec: what goes in and comes out.
        weights: the state dict, on the CPU.
        training: how it was trained, as JSON values; for people.
    """

    model: str
    spec: ModelSpec
    weights: dict[str, torch.Tensor]
    training: dict[str, Any]

    @classmethod
    def of(
        cls, model: str, spec: ModelSpec, weights: Mapping[str, torch.Tensor], training: dict[str, Any]
    ) -> Checkpoint:
        """Return a checkpoint with a copy of ``weights``, a state dict on any device."""
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
        return cls(model, spec, copies, training)

    def module(self) -> nn.Module:
        """Return the network with these weights, in eval mode.

        Raises:
            CheckpointError: the model is unknown or the weights do not fit it.
        """
        size = len(self.spec.labels), self.spec.preprocessing.height, self.spec.preprocessing.width
        try:
            if self.model in MODELS:  # a claim of huge images is found out before their weights are in memory
                with torch.device("meta"):
                    self._load(build_model(self.model, *size), assign=True)
            with seeded(0):  # the fresh weights are overwritten; the caller's random numbers stay as they were
                module = build_model(self.model, *size)
            self._load(module)
        except (QuillError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise CheckpointError(
                f"expected weights of the model {self.model!r} for {len(self.spec.labels)} classes, but {reason}; "
                "get the file again or train anew"
            ) from error
        return module.eval()

    def _load(self, module: nn.Module, *, assign: bool = False) -> None:
        kinds = {name: tensor.is_floating_point() for name, tensor in module.state_dict().items()}
        for name, tensor in self.weights.items():
            if tensor.is_floating_point() != kinds.get(name, tensor.is_floating_point()):
                raise SpecError(f"{name} is {tensor.dtype}")  # loading would convert it in silence
        module.load_state_dict(self.weights, strict=True, assign=assign)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    meaning = {
        "schema": SCHEMA,
        "model": checkpoint.model,
        "spec": checkpoint.spec.to_json(),
        "training": checkpoint.training,
    }
    write_bytes(path, save(checkpoint.weights, {_KEY: json.dumps(meaning, allow_nan=False)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint that ``save_checkpoint`` wrote to ``path``; its weights fit its model.

    Raises:
        CheckpointError: the file is missing, damaged, not ours, newer than this program, or its weights do not fit.
    """
    if path.is_dir():
        raise CheckpointError(f"expected a checkpoint (.safetensors), but {path} is a folder; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open does not iterate
    except OSError as error:
        raise CheckpointError(f"expected a checkpoint (.safetensors) at {path}, but {error}; check the path") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"expected a checkpoint (.safetensors), but {path} is damaged or of another kind ({error}); get it again"
        ) from error
    try:
        meaning = checked(read_json(metadata[_KEY].encode()), dict, "the metadata")
        if checked(meaning["schema"], int, "the schema") > SCHEMA:
            raise CheckpointError(
                f"expected a checkpoint of schema {SCHEMA} at most, but {path} has {meaning['schema']}; upgrade quillrt"
            )
        spec = ModelSpec.from_json(meaning["spec"])
        training = checked(meaning["training"], dict, "the record of training")
        checkpoint = Checkpoint(checked(meaning["model"], str, "the model"), spec, weights, training)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected a checkpoint that quillrt wrote, but {path} lacks its metadata ({error!r}); train one"
        ) from error
    except SpecError as error:
        raise CheckpointError(f"expected a checkpoint that quillrt wrote, but in {path} {error}") from error
    try:
        checkpoint.module()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return checkpoint
