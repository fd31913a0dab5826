"""Writing a `.quill` bundle, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .bundle import MANIFEST, Bundle
from .confidence import AS_IT_IS, Confidence
from .files import written_whole
from .manifest import Entry, Manifest
from .spec import ModelSpec

_DATE = (1980, 1, 1, 0, 0, 0)  # zip's earliest: equal content gives equal bytes


def entry_for(data: bytes, path: str, kind: str, **facts: Any) -> tuple[Entry, bytes]:
    """Return an entry with the size and sha256 of ``data``, beside ``data``; ``facts`` are ``Entry``'s other fields."""
    return Entry(path, kind, hashlib.sha256(data).hexdigest(), len(data), **facts), data


def with_files(bundle: Bundle, files: Sequence[tuple[Entry, bytes]]) -> list[tuple[Entry, bytes]]:
    """Return the files of ``bundle`` with ``files``, in place of those of the same path."""
    replaced = {entry.path for entry, _ in files}
    kept = [(entry, bundle.read(entry)) for entry in bundle.entries if entry.path not in replaced]
    return [*kept, *files]


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
        OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    manifest = Manifest(model, source, tuple(entry for entry, _ in files), preferred or {}, confidence)
    text = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    with written_whole(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST, _DATE), text)
        for entry, data in files:
            archive.writestr(zipfile.ZipInfo(entry.path, _DATE), data)
    return manifest
