"""A version of a model put into a Triton server's repository, whole or not at all.

The repository's layout: "Model Repository" of Triton's user guide.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from quillrt.runtime.errors import ConfigError

LARGEST_VERSION = 2**63 - 1


def add_version(
    repository: Path,
    name: str,
    version: int,
    shared: Mapping[str, bytes],
    files: Mapping[str, bytes],
    *,
    force: bool = False,
) -> None:
    """Write ``files`` as a version of a model, and what all its versions share.

    Args:
        repository: the folder; made if it is missing.
        name: of the model.
        version: its number.
        shared: by path in the model's folder.
        files: by name in the version's folder.
        force: replace the version, and what differs of what all share.

    Raises:
        ConfigError: the repository or the model is a file, or something would be replaced without ``force``.
        OSError: the folder cannot be written or the disk is full; all is as it was.
    """
    if not 1 <= version <= LARGEST_VERSION:
        raise ConfigError(f"expected a --version of 1 or more, found {version}")
    model = repository / name
    for folder in (repository, model):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"expected a folder at {folder}, found a file; give another --repository or --name")
    kept = {path for path, data in shared.items() if _holds(model / path, data)}
    if not force:
        _check_free(model, version, [path for path in shared if path not in kept])
    with _staged(repository) as stage:
        fresh = stage / "new" / name
        for path, data in {**shared, **{f"{version}/{file}": data for file, data in files.items()}}.items():
            _write(fresh / path, data)
        if not model.exists():
            fresh.rename(model)
            return
        changed = {path.split("/")[0] for path in shared if path not in kept}
        _exchange(fresh, model, stage / "old", [*sorted(changed), str(version)])


def _check_free(model: Path, version: int, differing: list[str]) -> None:
    if (model / str(version)).exists():
        raise ConfigError(
            f"expected no version {version} in {model}, found one; give another --version, or --force to replace it"
        )
    if model.exists() and differing:
        raise ConfigError(
            f"expected the {differing[0]} that is in {model}, for all versions share it, found another; give the same "
            "options, another --name, or --force to replace it"
        )


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


@contextmanager
def _staged(repository: Path) -> Iterator[Path]:
    """Give a folder in the repository that is removed in the end; without a configuration it is no model."""
    missing = [folder for folder in (repository, *repository.parents) if not folder.exists()]
    stage = repository / f".quillrt.{secrets.token_hex(4)}"
    try:
        stage.mkdir(parents=True)
        yield stage
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        for folder in missing:  # the deepest first; what holds something stays
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    shutil.rmtree(stage)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk's error names no file
        raise


def _exchange(fresh: Path, model: Path, old: Path, names: list[str]) -> None:
    """Put ``names`` out of ``fresh`` into ``model``, what was there into ``old``; put it back if that fails halfway."""
    old.mkdir()
    done: list[tuple[Path, Path]] = []
    try:
        for name in names:
            moves = [(fresh / name, model / name)]
            if (model / name).exists():
                moves.insert(0, (model / name, old / name))
            for source, target in moves:
                done.append((source, target))
                source.rename(target)
    except BaseException:
        for source, target in reversed(done):
            if target.exists() and not source.exists():
                target.rename(source)
        raise
