"""The commands that repeat a benchmark, out of what its result says."""

from __future__ import annotations

import hashlib
import shlex
from zipfile import ZipFile

from quillrt.runtime.backends import BACKENDS
from quillrt.runtime.pretrained import FOLDER, PREFIX, names

from .images import SYNTHETIC
from .presets import PRESETS, Preset
from .results import Result
from .torch_sessions import TORCH_BACKENDS

_CUDA_GRAPH = "CUDA graph"


def commands(result: Result) -> list[str]:
    """Return the shell's lines: the code, the packages, the measurement."""
    lines = []
    git = result.environment["git"]
    if git is not None:
        lines.append(f"git checkout {git['commit']}" + ("    # it had changes besides" if git["changed"] else ""))
    packages = [f"{name}=={version}" for name, version in result.environment["packages"].items() if name != "quillrt"]
    lines.append(f"pip install . {shlex.join(packages)}")
    if not result.model:  # the GPU check makes its own model
        return [*lines, "benchmarks/gpu_check.sh OUT_FOLDER"]
    return [*lines, bench_command(result)]


def bench_command(result: Result) -> str:
    """Return the line of ``quillrt bench``; what must be put in, a file's place, is in capitals."""
    settings, found = result.settings, _pretrained(result.model["sha256"])
    model = f"{PREFIX}{found}" if found else result.model["name"]
    line = ["quillrt", "bench", model]
    torch = any(row.measured for row in result.rows if row.backend in TORCH_BACKENDS)
    line += ["--checkpoint", model if found else "CHECKPOINT"] if torch else []
    line += ["--scenario", settings["scenario"]]
    for batch in settings["batches"]:
        line += ["--batch", str(batch)]
    for name in ("seconds", "rounds", "builds", "threads", "images", "seed"):
        line += [f"--{name}", f"{settings[name]:g}"]
    line += ["--device", str(settings["device"])] if settings.get("device") else []
    if settings["latency_bound_ms"] is not None:
        line += ["--latency-bound-ms", f"{settings['latency_bound_ms']:g}"]
    if settings["source"] != SYNTHETIC:
        dataset, _, part = settings["source"].rpartition(" ")
        line += ["--dataset", "folder:PATH" if dataset.startswith("folder") else dataset, "--part", part]
    for key, value in settings["provider_options"].items():
        line += ["--provider-option", f"{key}={value}"]
    return shlex.join([*line, *_rows(result)])


def _rows(result: Result) -> list[str]:
    """Return the options that choose the rows; what the preset brings along needs none."""
    preset = PRESETS.get(result.settings["preset"], Preset())
    line = ["--preset", result.settings["preset"]] if result.settings["preset"] else []
    own = list(dict.fromkeys(row.backend for row in result.rows if row.kind == "backend"))
    if not set(BACKENDS) <= set(own) and not preset.on_gpu:
        line += [word for backend in own for word in ("--backend", backend)]
    offered = {",".join(f"{key}={value}" for key, value in each.items()) for each in preset.variants}
    variants = dict.fromkeys(row.variant for row in result.rows if row.kind == "backend" and row.variant)
    line += ["--cuda-graph"] if _CUDA_GRAPH in variants and not preset.cuda_graphs else []
    line += [w for each in variants if each not in offered | {_CUDA_GRAPH} for w in ("--variant", each)]
    peers = dict.fromkeys(row.backend for row in result.rows if row.kind == "peer")
    line += [word for peer in peers if peer not in preset.peers for word in ("--peer", peer)]
    line += [word for sweep in result.settings.get("sweeps", ()) for word in ("--sweep", sweep)]
    line += ["--roofline"] if result.settings.get("roofline") and not preset.roofline else []
    return [*line, *(["--layers"] if result.settings.get("layers") else [])]


def _pretrained(sha256: str) -> str | None:
    """Return which of the models that come along has a manifest with this sha256."""
    for name in names():
        with ZipFile(FOLDER / f"{name}.quill") as bundle:
            if hashlib.sha256(bundle.read("manifest.json")).hexdigest() == sha256:
                return name
    return None
