"""What two results must have alike to be compared, and what else differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .results import Result

_SETTINGS = ("scenario", "threads", "latency_bound_ms", "provider_options")


def obstacles(old: Result, new: Result) -> list[str]:
    """Return in what machine and measurement differ, a line each: then the times are no measure of the code."""
    return _differing(_alike(old), _alike(new))


def remarks(old: Result, new: Result) -> list[str]:
    """Return what else differs and may be the cause: model, versions, the machine's state."""
    return _differing(_may_differ(old), _may_differ(new))


def _alike(result: Result) -> Mapping[str, Any]:
    environment = result.environment
    device, jetson, settings = environment["device"], environment.get("jetson") or {}, result.settings
    return {
        "processor": device["cpu"],
        "architecture": device["architecture"],
        "cores": device["cores"],
        "GPUs": ", ".join(gpu["name"] for gpu in device["gpus"]) or "none",
        "GPU used": settings.get("device", 0),
        "power mode": jetson.get("power_mode_name") or jetson.get("power_mode"),
        "limit of cores": environment["container"]["cpu_limit_cores"],
        **{name.replace("_", " "): settings[name] for name in _SETTINGS},
    }


def _may_differ(result: Result) -> Mapping[str, Any]:
    environment, model = result.environment, result.model
    return {
        "model": f"{model.get('name', 'none')} ({model.get('sha256', 'no sha256')[:12]})",
        "commit": environment["git"] and environment["git"]["commit"][:12],
        **{name.replace("_", " "): environment[name] for name in ("system", "kernel", "nvidia_driver", "python")},
        **{name.replace("_", " "): environment[name] for name in ("governor", "turbo", "on_battery", "memory_bytes")},
        **environment["packages"],
        "images": result.settings["source"],
        "images' sha256": result.settings.get("images_sha256", "")[:12] or None,
        "rounds": result.settings["rounds"],
        "builds": result.settings["builds"],
        "warnings": "; ".join(result.warnings) or "none",
    }


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*old, *new))
    return [f"{name}: {_told(old, name)} → {_told(new, name)}" for name in names if old.get(name) != new.get(name)]


def _told(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return "not told" if value is None else str(value)
