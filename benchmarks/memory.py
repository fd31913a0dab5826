"""How much memory a process takes, and its part of a GPU's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 10.0
_STATUS = Path("/proc/self/status")
Run = Callable[[list[str]], str]


@dataclass(frozen=True)
class Usage:
    """What a process took; ``None`` where that cannot be told.

    Attributes:
        peak_rss_bytes: largest resident memory, the images left out.
        device_memory_bytes: of all GPUs, now.
    """

    peak_rss_bytes: int | None
    device_memory_bytes: int | None


def peak_rss_bytes(status: Path = _STATUS) -> int | None:
    """Return the largest resident memory of this process so far, or ``None`` where the kernel does not tell."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def usage(before_images: int | None, image_bytes: int) -> Usage:
    """Return what this process took.

    Args:
        before_images: its peak before it mapped the images.
        image_bytes: what it mapped, all of it resident.
    """
    peak = peak_rss_bytes()
    own = None if peak is None else max(before_images or 0, peak - image_bytes)
    return Usage(own, device_memory_bytes(os.getpid()))


def device_memory_bytes(process: int, run: Run | None = None) -> int | None:
    """Return the memory that nvidia-smi says ``process`` has on all GPUs, or ``None`` where it does not say."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    text = (run or output_of)(command)
    found = re.findall(rf"^{process},\s*(\d+)$", text, re.MULTILINE)
    return sum(map(int, found)) * 2**20 if found else None


def output_of(command: list[str]) -> str:
    """Return what a program prints, nothing if it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
