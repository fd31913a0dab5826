"""The power mode and the clocks that a Jetson runs at, without which none of its figures says anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quillrt.runtime.jetson import read_jetson

_FACTS = ("governor", "cur_freq", "min_freq", "max_freq")  # of the kernel's devfreq, in Hz
_GPU = ("gpu", "ga10b", "gv11b", "gp10b")  # part of its name: JetPack 6 and 7, Orin, Xavier and TX2 on JetPack 5 and 4


def power_and_clocks(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return the power mode and the clocks of GPU, memory and accelerators as plain JSON values.

    ``None`` where the files below ``root`` are no Jetson's, or within for what they do not tell. A clock whose least
    and greatest frequency are the same is fixed, as ``jetson_clocks`` leaves it.
    """
    jetson = read_jetson(root)
    if jetson is None:
        return None
    mode = jetson.power_mode
    clocks = {
        folder.name: {fact: _value(folder / fact) for fact in _FACTS}
        for folder in sorted((root / "sys/class/devfreq").glob("*"))
    }
    return {
        "model": jetson.model,
        "l4t": jetson.l4t,
        "jetpack": jetson.jetpack,
        "power_mode": mode,
        "power_mode_name": None if mode is None else jetson.power_modes.get(mode),
        "clocks": clocks,
    }


def clocks_line(facts: Mapping[str, Any]) -> str:
    """Return the mode and the GPU's clocks in one line, such as no figure of a Jetson may stand without."""
    mode = facts["power_mode_name"] or facts["power_mode"]
    parts = ["power mode unknown" if mode is None else f"power mode {mode}"]
    for name, clock in facts["clocks"].items():
        if not any(part in name for part in _GPU):
            continue
        least, now, most = (
            "?" if clock[fact] is None else f"{clock[fact] / 1e6:.0f}" for fact in ("min_freq", "cur_freq", "max_freq")
        )
        parts.append(f"{name} {now} MHz ({'fixed' if least == most != '?' else f'{least} to {most}'})")
    return ", ".join(parts)


def _value(path: Path) -> int | str | None:
    """Return a file's text, a number where it is one, or ``None`` if this kernel does not have or show it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else text or None
