"""The real Python bindings of TensorRT versions, installed where nothing else finds them, without TensorRT itself."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# JetPack 6 has 10.3. Newest Python with a wheel for x86_64: 3.12 for 10.3, 3.13 for 10.13, 3.14 for 11.4.
RELEASES = {
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.13": "tensorrt-cu13-bindings==10.13.*",
    "11.4": "tensorrt-cu13-bindings==11.4.*",
}
_LIBRARIES = [f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser") for major in (10, 11)]


class UnavailableError(Exception):
    """This machine cannot have the bindings; the message says why in one line."""


def environment(release: str, folder: Path) -> dict[str, str]:
    """Return the environment of a process in which ``import tensorrt_bindings`` gives those of ``release``.

    What is installed and compiled for it stays in ``folder`` for the next time.

    Raises:
        UnavailableError: there is no compiler, no such wheel for this Python and platform, or no way to PyPI.
    """
    stand_ins = _once(folder / f"stand-ins-{platform.machine()}", _compile)
    requirement = RELEASES[release]
    site = _once(folder / f"{release}-{sys.implementation.cache_tag}-{platform.machine()}", _install, requirement)
    paths = {"LD_LIBRARY_PATH": stand_ins, "PYTHONPATH": site}
    kept = {name: [os.environ[name]] if os.environ.get(name) else [] for name in paths}
    return {**os.environ, **{name: os.pathsep.join([str(path), *kept[name]]) for name, path in paths.items()}}


def _once(target: Path, fill: Callable[..., None], *arguments: str) -> Path:
    """Return the folder ``target``, which ``fill(folder, *arguments)`` fills if it is not there; never half of it."""
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch, "made")
            fill(made, *arguments)
            with suppress(OSError):  # another process was first
                made.rename(target)
    return target


def _compile(folder: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise UnavailableError("TensorRT's stand-in libraries need a C compiler, found none")
    folder.mkdir()
    first, *others = (folder / name for name in _LIBRARIES)
    source = Path(__file__).with_name("stand_ins.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", first, source], check=True)
    for other in others:
        shutil.copy(first, other)


def _install(folder: Path, requirement: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    how = ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=15", "--target", str(folder)]
    run = subprocess.run([*pip, *how, requirement], capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise UnavailableError(f"pip cannot get {requirement} for this Python and platform from PyPI: {last}")
