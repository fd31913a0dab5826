"""Writing a `.quill` bundle, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .bundle import Bundle
from .confidence import AS_IT_IS, Confidence
from .errors import BundleError
from .files import written_whole
from .manifest import MANIFEST, Entry, Manifest, read_manifest
from .signature import SIGNATURE, sign
from .spec import ModelSpec
from .zips import read_stored

_DATE = (1980, 1, 1, 0, 0, 0)  # zip's earliest: equal content gives equal bytes


def entry_for(data: bytes, path: str, kind: str, **facts: Any) -> tuple[Entry, bytes]:
    """Return an entry with the size and sha256 of ``data``, beside ``data``; ``facts`` are ``Entry``'s other fields."""
    return Entry(path, kind, hashlib.sha256(data).hexdigest(), len(data), **facts), data


def add_files(bundle: Bundle, files: Sequence[tuple[Entry, bytes]]) -> None:
    """Put ``files`` into the bundle where it lies, in place of those of the same path.

    Others may do so at the same time: what they added since ``bundle`` was read stays.

    Raises:
        BundleError: another bundle has taken its place.
        OSError: it cannot be written; it is as it was.
    """
    with _alone(bundle.path):
        now = Bundle.open(bundle.path)
        if _graphs(now) != _graphs(bundle):
            raise BundleError(
                f"expected {bundle.path} as it was read, found another bundle in its place; do the same with that one"
            )
        replaced = {entry.path for entry, _ in files}
        kept = [(entry, now.read(entry)) for entry in now.entries if entry.path not in replaced]
        manifest = now.manifest
        write_bundle(
            now.path, manifest.model, manifest.source, [*kept, *files], manifest.preferred, manifest.confidence
        )


def _graphs(bundle: Bundle) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in bundle.entries if entry.kind == "onnx"}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others from adding; writing replaces the file, so that a lock got late may be of one that is gone."""
    while True:
        with path.open("rb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def write_bundle(
    path: Path,
    model: ModelSpec,
    source: Mapping[str, Any],
    files: Sequence[tuple[Entry, bytes]],
    preferred: Mapping[str, str] | None = None,
    confidence: Confidence = AS_IT_IS,
) -> Manifest:
    """Write the files and a manifest that names them; return the manifest.

    Args:
        path: of the bundle.
        model: what goes in and comes out.
        source: see ``Manifest``.
        files: with their entries.
        preferred: see ``Manifest``.
        confidence: see ``Manifest``.

    Raises:
        BundleError: two files have one name, or the manifest could not be read back, as one that cannot be printed.
        OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    if len({entry.path for entry, _ in files}) < len(files):
        raise BundleError(f"expected files of different names for {path}, found a name twice; leave one out")
    manifest = Manifest(model, source, tuple(entry for entry, _ in files), preferred or {}, confidence)
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    read_manifest(text.encode())
    _write_zip(path, [(MANIFEST, text.encode()), *((entry.path, data) for entry, data in files)])
    return manifest


def sign_bundle(path: Path, key: Path) -> str:
    """Put a signature into a bundle, in place of one that it has; all else stays byte for byte as it is.

    Args:
        path: of the bundle.
        key: PEM file of an Ed25519 private key.

    Returns:
        The bundle's fingerprint.

    Raises:
        BundleError: it is no whole bundle.
        ConfigError: there is no such key.
        OSError: the bundle cannot be written; it stays as it was.
    """
    fingerprint = Bundle.open(path, made_here=True).sha256
    with _alone(path):
        files = read_stored(path)
        if hashlib.sha256(files[MANIFEST]).hexdigest() != fingerprint:
            raise BundleError(f"expected {path} to stay as it is, but it was changed while it was read; sign it again")
        _write_zip(path, [*files.items(), (SIGNATURE, sign(files[MANIFEST], key))])
    return fingerprint


def _write_zip(path: Path, files: Sequence[tuple[str, bytes]]) -> None:
    with written_whole(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, data in dict(files).items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
