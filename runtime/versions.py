"""Versions of the packages that made or ran something."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def versions(*packages: str) -> dict[str, str]:
    """Return the version of each package that is installed; a plain checkout of quillrt counts as ``checkout``."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package == "quillrt":
                found[package] = "checkout"
    return found
