"""What Jetson this machine is, read from files alone: the device tree, Jetson Linux, its packages, its power mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .jetpack import jetpack_of

# SoC in the device tree -> its GPU's compute capability, which no card has: Jetson TX1 and Nano, TX2, Xavier, Orin,
# Thor (as jetson-stats and jetson-containers tell).
_SOCS = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}
JETSON_GPUS = frozenset(_SOCS.values())
# Part of a name in the device tree -> deep learning accelerators (NVIDIA's data sheets): AGX Orin, Orin NX of 16 and of
# 8 GB, Orin Nano, AGX Xavier, Xavier NX, Thor.
_DLA_CORES = {
    **{"p3701": 2, "p3767-0000": 2, "p3767-0001": 1, "p3767-0003": 0, "p3767-0004": 0, "p3767-0005": 0},
    **{"p2972-0000": 2, "p3668": 2, "tegra264": 0},
}
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_POWER_MODEL = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", re.MULTILINE)
_PACKAGES = ("nvidia-l4t-core", "nvidia-jetpack", "python3-libnvinfer")


@dataclass(frozen=True)
class Jetson:
    """One Jetson; what its files do not tell is ``None``.

    Attributes:
        model: the board's name.
        compatible: what the device tree calls board, module and SoC.
        soc: the SoC, such as ``tegra234``.
        compute_capability: of the SoC's GPU.
        dla_cores: number of its deep learning accelerators.
        l4t: release of Jetson Linux, such as ``36.4.3``.
        jetpack: version of JetPack.
        system_tensorrt: version of the TensorRT that the system's own Python has.
        power_mode: number of the mode that nvpmodel was told last.
        power_modes: name of each mode this board has, by number.
    """

    model: str | None
    compatible: tuple[str, ...]
    soc: str | None
    compute_capability: str | None
    dla_cores: int | None
    l4t: str | None
    jetpack: str | None
    system_tensorrt: str | None
    power_mode: int | None
    power_modes: Mapping[int, str]

    @property
    def fastest_mode(self) -> int | None:
        """The number of the mode without limits, called ``MAXN`` or, where there is one, ``MAXN_SUPER``."""
        named = {name: number for number, name in self.power_modes.items()}
        return named.get("MAXN_SUPER", named.get("MAXN"))


def read_jetson(root: Path = Path("/")) -> Jetson | None:
    """Return the Jetson whose files are below ``root``, or ``None`` where it is none; runs no program."""
    compatible = tuple(filter(None, _read(root / "proc/device-tree/compatible").split("\0")))
    soc = next((name.removeprefix("nvidia,") for name in compatible if name.removeprefix("nvidia,") in _SOCS), None)
    release = _RELEASE.search(_read(root / "etc/nv_tegra_release"))
    if soc is None and release is None:
        return None
    packages = _versions(root / "var/lib/dpkg/status")
    l4t = _three_numbers(".".join(release.groups())) if release else packages.get("nvidia-l4t-core")
    known = jetpack_of(l4t, None)
    status = re.search(r"pmode:(\d+)", _read(root / "var/lib/nvpmodel/status"))
    return Jetson(
        model=_read(root / "proc/device-tree/model").strip("\0\n ") or None,
        compatible=compatible,
        soc=soc,
        compute_capability=_SOCS.get(soc or ""),
        dla_cores=next((_DLA_CORES[part] for part in _DLA_CORES if any(part in name for name in compatible)), None),
        l4t=l4t,
        jetpack=packages.get("nvidia-jetpack") or (known.version if known else None),
        system_tensorrt=packages.get("python3-libnvinfer"),
        power_mode=int(status[1]) if status else None,
        power_modes={int(number): name for number, name in _POWER_MODEL.findall(_read(root / "etc/nvpmodel.conf"))},
    )


def _versions(status: Path) -> dict[str, str]:
    """Return the versions of ``_PACKAGES`` that dpkg's list calls installed, without Debian's and NVIDIA's endings."""
    wanted = tuple(f"Package: {package}\n" for package in _PACKAGES)
    found = {}
    for paragraph in _read(status).split("\n\n"):
        if paragraph.startswith(wanted):
            fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
            if fields.get("Status", "").endswith(" installed"):
                found[fields["Package"]] = re.split(r"[-+]", fields.get("Version", ""))[0]
    return found


def _three_numbers(version: str) -> str:
    """Return ``36.4.0`` for ``36.4``, as NVIDIA writes some releases."""
    return version + ".0" * (2 - version.count("."))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, not a Jetson, or not for this user
        return ""
