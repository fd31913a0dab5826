"""What a stretch of work takes in energy, where the machine tells: RAPL, nvidia-smi, tegrastats.

All of them tell of a whole processor, board or GPU: idle draw and neighbours are in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import IO, Protocol

from quillrt.runtime.counting import counted

_POWERCAP = Path("/sys/class/powercap")
_INTERVAL_MS = 50
_GOODBYE_S = 5.0
# A board's whole input, as Jetsons call it; tegrastats prints "NAME now/average" in mW.
_TEGRA_POWER = re.compile(r"(?:VDD_IN|VIN_SYS_5V0|VIN|POM_5V_IN) (\d+)(?:mW)?/")


class Meter(Protocol):
    """Tells joules; ``name`` says of what."""

    @property
    def name(self) -> str: ...

    def start(self) -> None:
        """Begin a stretch."""
        ...

    def stop(self) -> float | None:
        """End it and return its joules, ``None`` where it was too short to tell."""
        ...


class Rapl:
    """Intel's and AMD's counters of each processor package, by the kernel's powercap files."""

    def __init__(self, packages: list[Path]) -> None:
        self.name = f"RAPL, {counted(len(packages), 'package')}"
        self._packages = packages
        self._largest = [_number(path / "max_energy_range_uj") for path in packages]

    def start(self) -> None:
        self._before = [_number(path / "energy_uj") for path in self._packages]

    def stop(self) -> float | None:
        after = [_number(path / "energy_uj") for path in self._packages]
        pairs = zip(self._before, after, self._largest, strict=True)
        return sum((b - a) if b >= a else (b + largest - a) for a, b, largest in pairs) / 1e6


class Polled:
    """A program that prints a power now and then: energy is the mean power times the stretch."""

    def __init__(self, name: str, command: list[str], watts: Callable[[str], list[float]]) -> None:
        self.name = name
        self._command, self._watts = command, watts

    def start(self) -> None:
        self._output: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed in stop
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.DEVNULL
        )
        self._began = perf_counter()

    def stop(self) -> float | None:
        seconds = perf_counter() - self._began
        self._process.terminate()
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._output as output:
            output.seek(0)
            found = self._watts(output.read().decode(errors="replace"))
        return sum(found) / len(found) * seconds if found else None


def gpu_watts(text: str) -> list[float]:
    """Return the powers that nvidia-smi printed, of one GPU."""
    return [float(line) for line in text.split() if re.fullmatch(r"\d+(\.\d+)?", line)]


def tegra_watts(text: str) -> list[float]:
    """Return the powers that tegrastats printed."""
    return [int(milliwatts) / 1000 for milliwatts in _TEGRA_POWER.findall(text)]


def find_meter(*, on_gpu: bool, device: int = 0, powercap: Path = _POWERCAP) -> tuple[Meter | None, str]:
    """Return what tells the energy of a row here, or ``None``, and the reason for that.

    Args:
        on_gpu: the row computes on a GPU.
        device: index of that.
        powercap: the kernel's folder.
    """
    if shutil.which("tegrastats"):
        return Polled("tegrastats, board", ["tegrastats", "--interval", str(_INTERVAL_MS)], tegra_watts), ""
    if on_gpu:
        if shutil.which("nvidia-smi") is None:
            return None, "nvidia-smi is not here"
        query = ["nvidia-smi", f"--id={device}", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        return Polled(f"nvidia-smi, GPU {device}", [*query, f"--loop-ms={_INTERVAL_MS}"], gpu_watts), ""
    packages = [path for path in sorted(powercap.glob("*-rapl:*")) if re.fullmatch(r"[a-z]+-rapl:\d+", path.name)]
    if not packages:
        return None, "no RAPL counters (/sys/class/powercap), as in most virtual machines"
    try:
        for path in packages:
            _number(path / "energy_uj")
    except (OSError, ValueError):
        return None, "the RAPL counters may be read by root alone: chmod a+r /sys/class/powercap/*/energy_uj"
    return Rapl(packages), ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
