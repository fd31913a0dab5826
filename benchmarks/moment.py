"""What of a machine changes while it works, and what of it makes figures doubtful."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from .memory import Run, output_of

_ROOT = Path("/")
# nvidia-smi's names -> ours.
_GPU_FIELDS = {
    "name": "name",
    "driver_version": "driver",
    "clocks.sm": "sm_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "clocks.max.sm": "max_sm_clock_mhz",
    "power.draw": "power_w",
    "power.limit": "power_cap_w",
    "temperature.gpu": "temperature_c",
    "clocks_throttle_reasons.active": "throttle_reasons",
}
# Bits of nvmlClocksEventReasons in nvml.h; 1, an idle GPU, and 2, clocks set by the user, slow nothing down.
_THROTTLE = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "synchronized boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
_BUSY = 0.25  # of the processors, taken by others at the start


def moment(root: Path = _ROOT, run: Run = output_of) -> dict[str, Any]:
    """Return load, processor clock, temperature and GPUs of now as plain JSON values."""
    clocks = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read(root / "proc/cpuinfo"), re.MULTILINE)
    zones = [_read(path) for path in sorted(root.glob("sys/class/thermal/thermal_zone*/temp"))]
    query = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    degrees = [int(zone) / 1000 for zone in zones if re.fullmatch(r"-?\d+\s*", zone)]
    load = _read(root / "proc/loadavg").split()
    return {
        "load_average": float(load[0]) if load else None,
        "cpu_mhz": round(max(map(float, clocks)), 1) if clocks else None,
        "temperature_c": max(degrees, default=None),
        "gpus": gpu_states(run(query)),
    }


def gpu_states(text: str) -> list[dict[str, Any]]:
    """Return the state of each GPU out of nvidia-smi's table; ``None`` for what it does not support."""
    found = []
    for line in csv.reader(StringIO(text), skipinitialspace=True):
        if len(line) != len(_GPU_FIELDS):
            continue
        state: dict[str, Any] = {}
        for key, value in zip(_GPU_FIELDS.values(), line, strict=True):
            if key == "throttle_reasons":
                bits = int(value, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", value) else 0
                state[key] = [said for bit, said in _THROTTLE.items() if bits & bit]
            elif key in ("name", "driver"):
                state[key] = value
            else:
                state[key] = float(value) if re.fullmatch(r"[\d.]+", value) else None
        found.append(state)
    return found


def turbo(root: Path = _ROOT) -> bool | None:
    """Tell whether the processor may clock above its base; ``None`` where the kernel does not say."""
    if value := _read(root / "sys/devices/system/cpu/intel_pstate/no_turbo").strip():
        return value == "0"
    if value := _read(root / "sys/devices/system/cpu/cpufreq/boost").strip():
        return value == "1"
    return None


def on_battery(root: Path = _ROOT) -> bool | None:
    """Tell whether a laptop runs on its battery; ``None`` where there is none."""
    supplies = list(root.glob("sys/class/power_supply/*"))
    kinds = {path: _read(path / "type").strip() for path in supplies}
    batteries = [
        path for path, kind in kinds.items() if kind == "Battery" and _read(path / "scope").strip() != "Device"
    ]
    if not batteries:
        return None
    mains = [_read(path / "online").strip() for path, kind in kinds.items() if kind in ("Mains", "USB")]
    return "1" not in mains if mains else any(_read(path / "status").strip() == "Discharging" for path in batteries)


def container(root: Path = _ROOT) -> dict[str, Any]:
    """Return the limits of this process's control group, version 2 or 1; ``None``: no limit, or not told."""
    groups = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines() if line.count(":") >= 2]
    top = root / "sys/fs/cgroup"
    if (top / "cgroup.controllers").exists():
        own = next((path for _, names, path in groups if not names), "/")
        quota = _nearest(top, own, "cpu.max").split()
        memory = _nearest(top, own, "memory.max").strip()
        return {"cgroup": 2, "cpu_limit_cores": _cores(*quota[:2]), "memory_limit_bytes": _limit(memory)}
    if not groups:
        return {"cgroup": None, "cpu_limit_cores": None, "memory_limit_bytes": None}
    paths = {name: path for _, names, path in groups for name in names.split(",")}
    quota_us = _nearest(top / "cpu", paths.get("cpu", "/"), "cpu.cfs_quota_us").strip()
    period_us = _nearest(top / "cpu", paths.get("cpu", "/"), "cpu.cfs_period_us").strip()
    memory = _nearest(top / "memory", paths.get("memory", "/"), "memory.limit_in_bytes").strip()
    return {"cgroup": 1, "cpu_limit_cores": _cores(quota_us, period_us), "memory_limit_bytes": _limit(memory)}


def _nearest(top: Path, own: str, name: str) -> str:
    """Return the file of this group, or of ``top`` where a container sees no more of the tree."""
    return _read(top / own.lstrip("/") / name) or _read(top / name)


def _cores(quota: str = "max", period: str = "") -> float | None:
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _limit(value: str) -> int | None:
    # Version 1 writes "no limit" as the largest multiple of a page.
    return int(value) if value.isdigit() and int(value) < 2**62 else None


def warnings(environment: Mapping[str, Any], threads: int) -> list[str]:
    """Return what of the machine's state makes figures doubtful, a line each.

    Args:
        environment: as ``environment.describe`` and ``environment.ended`` tell it.
        threads: CPU threads of a query.
    """
    found, cores = [], environment["device"]["cores"]
    if environment["on_battery"]:
        found.append("runs on battery: clocks may be held down; plug it in")
    governor = environment["governor"]
    if governor not in (None, "performance"):
        found.append(f"CPU governor {governor}: clocks follow the load; cpupower frequency-set -g performance")
    load = environment["start"]["load_average"]
    if load is not None and load > _BUSY * cores:
        found.append(f"busy neighbours: load average {load:g} on {cores} cores before the first query")
    if threads > cores:
        found.append(f"{threads} threads per query on {cores} cores")
    limit = environment["container"]["cpu_limit_cores"]
    if limit is not None and limit < threads:
        found.append(f"the container may use {limit:g} cores for {threads} threads per query")
    for name in ("start", "end"):
        for gpu in (environment[name] or {}).get("gpus", ()):
            if gpu["throttle_reasons"]:
                found.append(f"{gpu['name']} is throttled at the {name}: {', '.join(gpu['throttle_reasons'])}")
    found += _cooled_down(environment)
    return found


def _cooled_down(environment: Mapping[str, Any]) -> Sequence[str]:
    """Say which GPU's clock fell by more than a tenth from start to end, both under load or both not."""
    start, end = environment["start"]["gpus"], (environment["end"] or {}).get("gpus", ())
    lines = []
    for before, after in zip(start, end, strict=False):
        was, now, top = before["sm_clock_mhz"], after["sm_clock_mhz"], after["max_sm_clock_mhz"]
        if was and now and top and now < 0.9 * was:
            lines.append(f"{after['name']}: SM clock {was:g} MHz at the start, {now:g} at the end, of {top:g}")
    return lines


def affinity() -> list[int]:
    """Return the processors that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or not shown to this user
        return ""
