"""Where a training computes, and whether torch.compile can work there."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import torch

from quillrt.runtime.errors import BackendUnavailable


def choose_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu`` or ``cuda``; of several GPUs, the current one.

    Raises:
        BackendUnavailable: a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("expected a CUDA device, but torch finds none; check the driver or use --device cpu")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def check_compiler(device: str) -> None:
    """Raise unless torch.compile finds what it calls.

    Args:
        device: ``cpu`` (Inductor writes C++) or ``cuda`` (Triton writes C); both include Python's headers.

    Raises:
        BackendUnavailable: the compiler or the headers are missing.
    """
    variable, compilers = ("CXX", ["g++"]) if device == "cpu" else ("CC", ["gcc", "clang"])
    named = [os.environ[variable]] if variable in os.environ else compilers
    if not any(shutil.which(name) for name in named):
        raise BackendUnavailable(f"torch.compile needs a compiler ({' or '.join(named)}): apt install g++")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise BackendUnavailable("torch.compile needs Python's headers (Python.h): apt install python3-dev")
