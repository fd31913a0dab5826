"""The verb sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import note, print_json
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import Debug, Json, Quiet
from quillrt.runtime.pretrained import PREFIX


def sign(
    bundle: BundleFile,
    key: Annotated[
        Path,
        typer.Option(
            "--key", help="Ed25519 private key (PEM), as openssl genpkey -algorithm ed25519 -out KEY.pem makes one."
        ),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Sign a bundle, so that devices can tell who made it; its fingerprint stays."""
    from quillrt.runtime.bundle_writer import sign_bundle
    from quillrt.runtime.errors import ConfigError

    if bundle.given.startswith(PREFIX):
        raise ConfigError(f"expected a bundle of yours to sign, found {bundle}; copy {bundle.path} and sign that")
    fingerprint = sign_bundle(bundle.path, key)
    if as_json:
        print_json({"bundle": str(bundle), "sha256": fingerprint})
    note(f"{bundle}: signed; quillrt run --require-signature PUB.pem wants it so", quiet)
