"""What a result says of its machine, for people: a fact each, nothing that was not told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .jetson_clocks import clocks_line
from .results import Result

_GPU = {
    "sm_clock_mhz": "SM {:g} MHz",
    "memory_clock_mhz": "memory {:g} MHz",
    "power_w": "{:g} W",
    "power_cap_w": "cap {:g} W",
    "temperature_c": "{:g} °C",
}


def facts(result: Result) -> dict[str, str]:
    """Return name and value of each fact."""
    environment = result.environment
    device, container, git = environment["device"], environment["container"], environment["git"]
    jetson = environment.get("jetson")
    found = {
        "processor": f"{device['cpu']}, {device['architecture']}, {device['cores']} cores to be had",
        "its instructions": ", ".join(device["instructions"]),
        "GPUs": "; ".join(gpu["name"] for gpu in device["gpus"]) or device["gpu_reason"],
        "power and clocks": jetson and clocks_line(jetson),
        "NVIDIA driver": environment["nvidia_driver"],
        "memory": _bytes(environment["memory_bytes"]),
        "largest cache": _bytes(environment["l3_bytes"]),
        "governor": environment["governor"],
        "turbo": _yes(environment["turbo"]),
        "on battery": _yes(environment["on_battery"]),
        "container's limits": ", ".join(filter(None, (_cores(container), _bytes(container["memory_limit_bytes"])))),
        "at the start": _moment(environment["start"]),
        "at the end": _moment(environment["end"] or {}),
        "system": f"{environment['system']}, kernel {environment['kernel']}",
        "packages": f"Python {environment['python']}, "
        + ", ".join(f"{name} {version}" for name, version in environment["packages"].items()),
        "commit": git and git["commit"] + (", changed" if git["changed"] else ""),
    }
    return {name: value for name, value in found.items() if value}


def _moment(moment: Mapping[str, Any]) -> str:
    told = {"load average": "load_average", "CPU MHz": "cpu_mhz", "°C": "temperature_c"}
    parts = [f"{name} {moment[key]:g}" for name, key in told.items() if moment.get(key) is not None]
    for gpu in moment.get("gpus", ()):
        state = [form.format(gpu[key]) for key, form in _GPU.items() if gpu[key] is not None]
        throttled = f"throttled by {', '.join(gpu['throttle_reasons'])}" if gpu["throttle_reasons"] else "not throttled"
        parts.append(f"{gpu['name']}: {', '.join([*state, throttled])}")
    return "; ".join(parts)


def _cores(container: Mapping[str, Any]) -> str | None:
    limit = container["cpu_limit_cores"]
    return None if limit is None else f"{limit:g} cores"


def _bytes(value: int | None) -> str | None:
    return None if value is None else f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:,.0f} MiB"


def _yes(value: bool | None) -> str | None:  # noqa: FBT001
    return None if value is None else "yes" if value else "no"
