"""The machine a benchmark ran on, as far as it bears on the figures; no names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from quillrt.runtime.device import describe_device
from quillrt.runtime.versions import versions

from .jetson_clocks import clocks_line, power_and_clocks
from .memory import Run, output_of
from .moment import affinity, container, moment, on_battery, turbo
from .rotation import free_memory_bytes, last_cache_bytes

PACKAGES = (
    "quillrt", "numpy", "torch", "triton", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "ai-edge-litert",
    "tensorrt", "tensorrt-rtx", "cuda-bindings", "pycuda", "uvicorn", "starlette",
)  # fmt: skip


_HERE = Path(__file__).resolve().parent


def describe() -> dict[str, Any]:
    """Return the machine, its state and its software as plain JSON values; ``None`` for what is not told."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": asdict(describe_device()),
        "logical_cores": os.cpu_count(),
        "affinity": affinity(),
        "governor": _line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "turbo": turbo(),
        "l3_bytes": last_cache_bytes(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_available_bytes": free_memory_bytes(),
        "on_battery": on_battery(),
        "container": container(),
        "system": _system(),
        "kernel": platform.release(),
        "jetson": power_and_clocks(),
        "nvidia_driver": _line(Path("/proc/driver/nvidia/version")),
        "python": platform.python_version(),
        "packages": versions(*PACKAGES),
        "git": checkout(),
        "start": moment(),
        "end": None,
    }


def ended(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``environment`` with the machine's state of now as that at the end."""
    return {**environment, "end": moment()}


def checkout(folder: Path = _HERE, run: Run = output_of) -> dict[str, Any] | None:
    """Return the commit of the checkout that this code runs from, and whether it was changed; ``None`` if it is none.

    An installed package that lies in somebody else's checkout is none: ``folder`` must be tracked there.
    """
    git = ["git", "-C", str(folder)]
    if not run([*git, "ls-files", "--error-unmatch", "environment.py"]):
        return None
    commit = run([*git, "rev-parse", "HEAD"]).strip()
    changed = bool(run([*git, "status", "--porcelain", "--untracked-files=no"]).strip())
    return {"commit": commit, "changed": changed} if commit else None


def hardware_line(environment: Mapping[str, Any]) -> str:
    """Return the machine in one line, such as a figure must not stand without."""
    device, jetson = environment["device"], environment.get("jetson")
    return (
        f"{device['cpu']} ({device['architecture']}), {device['cores']} of {environment['logical_cores']} cores, "
        f"{environment['memory_bytes'] / 2**30:.0f} GiB, "
        f"{', '.join(gpu['name'] for gpu in device['gpus']) or 'no NVIDIA GPU'}; "
        f"{f'{clocks_line(jetson)}; ' if jetson else ''}"
        f"{environment['system']}, Python {environment['python']}"
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _line(path: Path) -> str | None:
    """Return a file's first line, or ``None`` if this machine does not have or show it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return None
