"""Reading a `.quill` bundle: one zip, its files stored uncompressed, each checked against the manifest's sha256."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .errors import BundleError
from .manifest import MANIFEST, Entry, Manifest, read_manifest
from .onnx_bytes import check_self_contained
from .signature import SIGNATURE, check_signature, required_key
from .zips import read_stored


@dataclass(frozen=True)
class Bundle:
    """An opened and checked bundle; its content is in memory, so the file may go.

    Attributes:
        path: where it was read from.
        manifest: what it says of itself.
        files: bytes of every entry by its path.
        sha256: of the manifest, which names the sha256 of all else: the bundle's fingerprint.
        is_signed: it carries a signature, which says nothing before it is held against a key.
    """

    path: Path
    manifest: Manifest
    files: dict[str, bytes]
    sha256: str
    is_signed: bool = False

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every file but the manifest."""
        return self.manifest.entries

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of ``entry``, byte for byte as its builder wrote them."""
        return self.files[entry.path]

    @classmethod
    def open(cls, path: str | Path, signature_key: Path | None = None, *, made_here: bool = False) -> Bundle:
        """Read and check a bundle whole.

        Args:
            path: of the bundle.
            signature_key: public key that it must be signed for; ``None``: the one that the environment's
                ``QUILLRT_REQUIRE_SIGNATURE`` names, if it names one.
            made_here: this program has just written it, so the environment asks for no signature.

        Raises:
            BundleError: no file, no zip, a truncated one, not signed as it must be, a newer schema, a file missing,
                unknown or changed, a graph that names something outside of itself.
            ConfigError: the key cannot be had.
        """
        path = Path(path)
        files = _read_zip(path)
        try:
            text = files.pop(MANIFEST)
        except KeyError:
            raise BundleError(f"expected {MANIFEST} in {path}, found a zip without one; give a .quill bundle") from None
        signature = files.pop(SIGNATURE, None)
        if key := signature_key or (None if made_here else required_key()):
            check_signature(text, signature, key, path)
        try:
            manifest = read_manifest(text)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error
        named = {entry.path for entry in manifest.entries}
        if named != set(files) or len(named) != len(manifest.entries):
            differing = ", ".join(sorted(named ^ set(files))) or "a name twice"
            raise BundleError(f"{path}: the manifest and the files differ in {differing}; make the bundle again")
        for entry in manifest.entries:
            digest = hashlib.sha256(files[entry.path]).hexdigest()
            if digest != entry.sha256 or len(files[entry.path]) != entry.size:
                raise BundleError(
                    f"{path}: {entry.path} should have sha256 {entry.sha256[:12]}…, but has {digest[:12]}…; "
                    "the file was changed or damaged: copy it or make it again"
                )
            if entry.kind == "onnx":
                try:
                    check_self_contained(files[entry.path])
                except BundleError as error:
                    raise BundleError(f"{path}: {entry.path}: {error}") from error
        return cls(path, manifest, files, hashlib.sha256(text).hexdigest(), signature is not None)


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        return read_stored(path)
    except OSError as error:
        raise BundleError(
            f"expected a bundle at {path}, but {error.strerror or error}; quillrt compile makes one"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path}: {error}; give a .quill bundle") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        if path.suffix in (".safetensors", ".pth", ".onnx"):
            raise BundleError(
                f"expected a .quill bundle, found {path}; quillrt compile makes a bundle of it"
            ) from error
        raise BundleError(
            f"expected a .quill bundle, but {path} is no zip, truncated or damaged ({error}); copy it or make it again"
        ) from error
