"""Models as arguments: a path, or ``models:NAME`` for one that comes with quillrt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quillrt.runtime.pretrained import PREFIX, find


@dataclass(frozen=True)
class ModelFile:
    """A model's file. As text it is what the user typed, so that no output names a path of this install.

    Attributes:
        given: what the user typed.
        path: where it lies.
    """

    given: str
    path: Path

    def __str__(self) -> str:
        return self.given

    def beside(self, suffix: str) -> Path:
        """Return where what is made of it goes by default: beside it, or for a pretrained model into ``runs/``."""
        made = self.path.with_suffix(suffix)
        return Path("runs", made.name) if self.given.startswith(PREFIX) else made


def bundle_file(given: str) -> ModelFile:
    """Return the file meant where a bundle is expected.

    Raises:
        ConfigError: no pretrained model has this name, or this install lacks the file.
    """
    return _file(given, ".quill")


def checkpoint_file(given: str) -> ModelFile:
    """Return the file meant where a checkpoint is expected; errors as for ``bundle_file``."""
    return _file(given, ".safetensors")


def _file(given: str, suffix: str) -> ModelFile:
    """Return the file; a name may say itself which it means, as in ``models:digits.safetensors``."""
    if not given.startswith(PREFIX):
        return ModelFile(given, Path(given))
    name, dot, own = given.removeprefix(PREFIX).partition(".")
    return ModelFile(given, find(name, dot + own or suffix))


BundleFile = Annotated[ModelFile, typer.Argument(parser=bundle_file, help="A .quill bundle, or models:NAME.")]
