"""Which Jetson this is: its board, its release of Jetson Linux with what that brings, and its power mode.

Read from files alone, which every user may read; where a container hides one, that is not told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: ([\d.]+)")
_MODE = re.compile(r"pmode:(\d+)")
_MODE_NAME = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")
_SOCS = {"tegra194": "Xavier", "tegra234": "Orin", "tegra264": "Thor"}


@dataclass(frozen=True)
class JetPack:
    """What a release of JetPack brings.

    Attributes:
        versions: its own.
        tensorrt: of TensorRT.
        cuda: of CUDA.
        python: of the system's Python, for which TensorRT's package is.
    """

    versions: str
    tensorrt: str
    cuda: str
    python: str

    @property
    def is_old(self) -> bool:
        """Its TensorRT is older than 10.3, the first that quillrt works with."""
        return int(self.tensorrt.split(".")[0]) < 10


# By the beginning of Jetson Linux's version (NVIDIA's "JetPack Archive", and its release notes of each).
_JETPACKS = {
    "35.": JetPack("5", "8.5", "11.4", "3.8"),
    "36.2": JetPack("6.0", "8.6", "12.2", "3.10"),
    "36.3": JetPack("6.0", "8.6", "12.2", "3.10"),
    "36.": JetPack("6.1 or later", "10.3", "12.6", "3.10"),
    "38.": JetPack("7.0 or 7.1", "10.13", "13.0", "3.12"),
    "39.": JetPack("7.2 or later", "10.16", "13.2", "3.12"),
}


@dataclass(frozen=True)
class Jetson:
    """One Jetson.

    Attributes:
        model: as its device tree names the board.
        soc: ``Xavier``, ``Orin``, ``Thor``, or the chip's own name.
        linux: version of Jetson Linux (L4T), such as ``36.4.3``; ``None`` where it is not told.
        jetpack: what that belongs to; ``None`` where it is not known.
        power_mode: number and name of the mode that ``nvpmodel`` set last; ``None`` where it is not told.
    """

    model: str
    soc: str
    linux: str | None
    jetpack: JetPack | None
    power_mode: str | None


def describe_jetson(root: Path = Path("/")) -> Jetson | None:
    """Return which Jetson this machine is, ``None`` if it is none; ``root`` is where its files lie."""
    names = _read(root / "proc/device-tree/compatible").split("\0")
    chips = [name.removeprefix("nvidia,") for name in names if re.fullmatch(r"nvidia,tegra\d+", name)]
    release = _RELEASE.search(_read(root / "etc/nv_tegra_release"))
    if not chips and release is None:
        return None
    linux = f"{release[1]}.{release[2]}" if release else None
    chip = chips[0] if chips else "unknown"
    known = (jetpack for start, jetpack in _JETPACKS.items() if linux and linux.startswith(start))
    return Jetson(
        model=_read(root / "proc/device-tree/model").strip("\0\n ") or "Jetson",
        soc=_SOCS.get(chip, chip),
        linux=linux,
        jetpack=next(known, None),
        power_mode=_power_mode(root),
    )


def _power_mode(root: Path) -> str | None:
    mode = _MODE.search(_read(root / "var/lib/nvpmodel/status"))
    if mode is None:
        return None
    names = {int(number): name for number, name in _MODE_NAME.findall(_read(root / "etc/nvpmodel.conf"))}
    number = int(mode[1])
    return f"{number} ({names[number]})" if number in names else str(number)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
