"""Ed25519 signatures (RFC 8032) of bundles: who made this one, told by a key that the device has.

What is signed are the bytes of ``manifest.json``, which names the sha256 of every other file. The 64 bytes of the
signature lie in the bundle as ``manifest.json.sig``, the one file that the manifest does not name. So it goes wherever
the bundle is copied to, as a file beside it would not; the manifest stays as it was, and with it the fingerprint; and
openssl can check it without quillrt (docs/security.md).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import BundleError, ConfigError
from .files import read_bounded

SIGNATURE = "manifest.json.sig"
REQUIRED = "QUILLRT_REQUIRE_SIGNATURE"  # the environment's: path of the public key that every bundle must be signed for
_MOST_KEY_BYTES = 2**16


def required_key() -> Path | None:
    """Return the public key that the environment asks every bundle to be signed for.

    Raises:
        ConfigError: it names none, as where a variable of the caller's was not set.
    """
    path = os.environ.get(REQUIRED)
    if path == "":
        raise ConfigError(f"expected the path of a public key in {REQUIRED}, found nothing; set or unset it")
    return None if path is None else Path(path)


def sign(manifest: bytes, key: Path) -> bytes:
    """Return the signature of a manifest by the private key in the PEM file ``key``.

    Raises:
        ConfigError: there is no such key, it is of another kind, or the package cryptography is missing.
    """
    signature: bytes = _key(key, "Private").sign(manifest)
    return signature


def check_signature(manifest: bytes, signature: bytes | None, key: Path, path: Path) -> None:
    """Raise unless ``signature`` is that of ``manifest`` by the private key of the public key in the PEM file ``key``.

    Args:
        manifest: bytes of ``manifest.json``.
        signature: ``None`` where the bundle has none.
        key: the public key.
        path: of the bundle, for the message.

    Raises:
        BundleError: it is not.
        ConfigError: there is no such key, it is of another kind, or the package cryptography is missing.
    """
    public = _key(key, "Public")
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise BundleError(f"expected a bundle signed for {key}, but {path} has no signature; get the signed one")
    try:
        public.verify(signature, manifest)
    except InvalidSignature as error:
        raise BundleError(
            f"expected a bundle signed for {key}, but {path} was signed by another key or changed since; get it again"
        ) from error


def _key(path: Path, kind: str) -> Any:
    """Return the ``Private`` or ``Public`` key in a PEM file.

    Raises:
        ConfigError: as ``sign``.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigError("signatures need the package cryptography: pip install 'quillrt[sign]'") from error
    try:
        data = read_bounded(path, _MOST_KEY_BYTES)
        if kind == "Private":
            key: Any = serialization.load_pem_private_key(data, password=None)
        else:
            key = serialization.load_pem_public_key(data)
    except OSError as error:
        raise ConfigError(f"expected a key at {path}, but {error.strerror}; check the path") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the second of one that asks for a password
        raise ConfigError(f"{_wanted(kind, path)}, found none that can be read without a password") from error
    if not isinstance(key, getattr(ed25519, f"Ed25519{kind}Key")):
        raise ConfigError(f"{_wanted(kind, path)}, found one of another kind")
    return key


def _wanted(kind: str, path: Path) -> str:
    how = "genpkey -algorithm ed25519 -out KEY.pem" if kind == "Private" else "pkey -in KEY.pem -pubout -out PUB.pem"
    return f"expected a {kind.lower()} Ed25519 key in {path}, as openssl {how} makes"
