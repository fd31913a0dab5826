"""The models that come with quillrt: their files by name."""

from __future__ import annotations

from pathlib import Path

from .errors import ConfigError

PREFIX = "models:"  # of a name where a path is expected
FOLDER = Path(__file__).resolve().parents[1] / "models"  # beside runtime/, in an install as in a checkout


def names() -> tuple[str, ...]:
    """Return the models' names: each has a recipe, ``NAME.toml``."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def find(name: str, suffix: str) -> Path:
    """Return the file of the model ``name`` that ends in ``suffix``: .quill, .safetensors, .md or .toml.

    Raises:
        ConfigError: no model has this name, or this install lacks the file.
    """
    if name not in names():
        known = ", ".join(names()) or "none, for this install has no models"
        raise ConfigError(f"expected a pretrained model out of {known}; found {name!r}")
    path = FOLDER / f"{name}{suffix}"
    if not path.is_file():
        raise ConfigError(
            f"expected the file {path.name} in {FOLDER}, but this install lacks it; install quillrt again"
        )
    return path
