"""The verb sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import note
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import Debug, Quiet


def sign(
    bundle: BundleFile,
    key: Annotated[
        Path,
        typer.Option(
            "--key", help="Ed25519 private key (PEM), as openssl genpkey -algorithm ed25519 -out KEY.pem makes one."
        ),
    ],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Sign a bundle, so that devices can tell who made it; its fingerprint stays."""
    from quillrt.runtime.bundle_writer import sign_bundle

    sign_bundle(bundle.path, key)
    note(f"{bundle}: signed; quillrt run --require-signature PUB.pem wants it so", quiet)
