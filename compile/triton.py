"""A bundle as a model of a Triton server: which of its files, how it is configured, and with what it is warmed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.build_options import DEFAULTS, Profile
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.engine_fit import holds_host_code
from quillrt.runtime.errors import BundleError, ConfigError
from quillrt.runtime.manifest import Entry
from quillrt.runtime.precision import Precision
from quillrt.runtime.preprocessing import fit_image, normalize
from quillrt.runtime.select import candidates
from quillrt.runtime.spec import ModelSpec

from .triton_config import LABELS, PLATFORMS, WARMUP, Serving, TritonConfig, Warmup

CONFIG = "config.pbtxt"
_MODEL = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}  # the names that Triton looks for
_DEFAULT_BATCH = DEFAULTS.profiles[0].largest[0]  # where a graph sets no limit: that of the engines


@dataclass(frozen=True)
class Deployment:
    """A model for a Triton server.

    Attributes:
        config: what its `config.pbtxt` says.
        entries: the bundle's files that it runs.
        shared: what all its versions share, by path in the model's folder: configuration, labels, warm-up inputs.
        version: what is this version's own, by name: graph or engines.
        needs: what the server must be told to run it, or ``None``.
    """

    config: TritonConfig
    entries: tuple[Entry, ...]
    shared: dict[str, bytes]
    version: dict[str, bytes]
    needs: str | None = None


def deploy(
    bundle: Bundle,
    name: str,
    backend: str = "onnxruntime",
    precision: Precision | None = None,
    serving: Serving = Serving(),
    images: Sequence[tuple[str, NDArray[np.uint8]]] = (),
) -> Deployment:
    """Return what a Triton server needs to serve ``bundle``; nothing is written.

    Args:
        bundle: what to serve.
        name: of the model on the server.
        backend: ``onnxruntime`` runs a graph, ``tensorrt`` an engine of full TensorRT.
        precision: of the graph or engine; ``None``: what ``run`` would choose for ``serving.kind``.
        serving: how it is run.
        images: names and grey images uint8 (H, W) of any size, to warm up with.

    Raises:
        ConfigError: a setting that cannot be, or does not go with the model or with another setting.
        BundleError: the bundle has no such graph or engine.
        SpecError: a datatype that Triton has not.
    """
    if backend not in PLATFORMS:
        raise ConfigError(f"expected a --backend out of {', '.join(PLATFORMS)}, found {backend!r}")
    model = bundle.manifest.model
    entries = choose(bundle, backend, precision, serving.kind)
    profiles = _profiles(entries)
    max_batch = _max_batch(model, serving.max_batch, profiles if backend == "tensorrt" else ())
    options = entries[0].built_for.get("options", {})
    version, by_capability = _named(bundle, entries, _MODEL[backend])
    warmups, inputs = _warmed(model, max_batch, serving.preferred_batches, images)
    config = TritonConfig(
        name,
        backend,
        model,
        max_batch,
        serving,
        next(iter(version)),
        by_capability,
        len(profiles),
        options.get("dla_core"),
        warmups,
    )
    shared = {CONFIG: config.text().encode(), LABELS: _labels(model), **inputs}
    host_code = any(map(holds_host_code, entries))
    needs = "--backend-config=tensorrt,version-compatible=true" if host_code else None
    return Deployment(config, entries, shared, version, needs)


def choose(bundle: Bundle, backend: str, precision: Precision | None, kind: str) -> tuple[Entry, ...]:
    """Return the entries to serve: a graph that ``kind`` runs, or the engines of one precision, one for each GPU.

    Raises:
        ConfigError: engines on the CPU.
        BundleError: there is none, or the engines differ in more than their GPU.
    """
    if backend == "tensorrt":
        return _engines(bundle, precision, kind)
    first = "onnxruntime-cpu" if kind == "cpu" else "onnxruntime-cuda"
    found = [
        entry
        for entry in candidates(bundle, first)
        if entry.kind == "onnx" and (kind != "auto" or "onnxruntime-cpu" in entry.backends)
    ]
    fitting = [entry for entry in found if precision in (None, entry.precision)]
    if not fitting:
        where = {"cpu": "CPUs", "gpu": "GPUs", "auto": "both GPUs and CPUs"}[kind]
        wanted = f"a {precision.value} graph" if precision else "a graph"
        raise BundleError(
            f"expected {wanted} in {bundle.path} that onnxruntime runs on {where}, found {_held(found)}; "
            "choose another --precision or --kind, or compile again with it"
        )
    return tuple(fitting[:1])


def _engines(bundle: Bundle, precision: Precision | None, kind: str) -> tuple[Entry, ...]:
    if kind == "cpu":
        raise ConfigError(
            "expected --kind gpu or auto for --backend tensorrt, found cpu; its engines run on GPUs alone"
        )
    found = [entry for entry in candidates(bundle, "tensorrt") if entry.kind == "engine"]
    # Triton puts no weights into an engine that was built without.
    whole = [entry for entry in found if not entry.built_for.get("options", {}).get("strip")]
    fitting = [entry for entry in whole if precision in (None, entry.precision)]
    if not fitting:
        wanted = f"a {precision.value} engine" if precision else "an engine"
        asked = f" --precision {precision.value}" if precision else ""
        raise BundleError(
            f"expected {wanted} of full TensorRT with its weights in {bundle.path}, found {_held(whole)} "
            f"(TensorRT-RTX's are not for Triton); on the server's GPU, with the server's version of TensorRT: "
            f"quillrt build {bundle.path} --backend tensorrt{asked} --write"
        )
    chosen = tuple(entry for entry in fitting if entry.precision is fitting[0].precision)
    if any(entry.built_for.get("options") != chosen[0].built_for.get("options") for entry in chosen):
        names = ", ".join(entry.path for entry in chosen)
        raise BundleError(f"expected engines built with the same options, found others in {names}; build them again")
    return chosen


def _held(entries: Sequence[Entry]) -> str:
    return ", ".join(dict.fromkeys(e.precision.value for e in entries if e.precision)) or "none"


def _profiles(entries: Sequence[Entry]) -> tuple[Profile, ...]:
    """Return an engine's optimization profiles; a graph has none, and is counted as one."""
    asked = entries[0].built_for.get("options", {}).get("profiles")
    if asked is None:
        return DEFAULTS.profiles
    try:
        return tuple(Profile(**{end: tuple(shape) for end, shape in profile.items()}) for profile in asked)
    except (TypeError, AttributeError, ConfigError) as error:
        raise BundleError(f"expected profiles of {entries[0].path}, found {asked!r}; build it again") from error


def _max_batch(model: ModelSpec, asked: int | None, profiles: Sequence[Profile]) -> int:
    """Return how many images one run may have: 0 for a model of one fixed batch, the profiles' reach for an engine."""
    fixed = model.input.shape[0] or model.output.shape[0]
    if fixed is not None:
        if asked:
            raise ConfigError(
                f"expected --max-batch 0 for a model whose batch is always {fixed}, found {asked}; leave it out"
            )
        return 0
    if not profiles:
        return _DEFAULT_BATCH if asked is None else asked
    reach = 0
    for profile in sorted(profiles, key=lambda profile: profile.smallest[0]):
        if profile.smallest[0] <= reach + 1:
            reach = max(reach, profile.largest[0])
    if not reach:
        shapes = ", ".join(map(str, profiles))
        raise ConfigError(
            f"expected an engine that takes 1 image, as Triton may send it, found shapes {shapes}; "
            "build it again with --shapes 1:8:64"
        )
    if asked is not None and asked > reach:
        raise ConfigError(
            f"expected --max-batch of 0 to {reach}, which the engine was built for, found {asked}; "
            f"build it with --shapes 1:8:{asked}"
        )
    return reach if asked is None else asked


def _named(bundle: Bundle, entries: Sequence[Entry], name: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the version's files, and which of them is for GPUs of which compute capability where there are several."""
    if len(entries) == 1:
        return {name: bundle.read(entries[0])}, {}
    stem, suffix = name.split(".")
    files, by_capability = {}, {}
    for entry in entries:
        capabilities = entry.built_for.get("compute_capabilities", [])
        own = ".".join([stem, *(f"sm{each.replace('.', '')}" for each in capabilities[:1]), suffix])
        files[own] = bundle.read(entry)
        by_capability.update(dict.fromkeys((each for each in capabilities if not each.endswith("+")), own))
    return files, by_capability


def _labels(model: ModelSpec) -> bytes:
    """Return the labels, one a line, as Triton reads them."""
    return "".join(f"{label}\n" for label in model.labels).encode()


def _warmed(
    model: ModelSpec, max_batch: int, preferred: Sequence[int], images: Sequence[tuple[str, NDArray[np.uint8]]]
) -> tuple[tuple[Warmup, ...], dict[str, bytes]]:
    """Return the requests and their inputs by path: each image alone, then the first in each size of batch."""
    warmups, inputs = [], {}
    for number, (name, image) in enumerate(images):
        file = f"{number:03d}.bin"
        warmups.append(Warmup(name, file))
        batch = normalize(fit_image(image, model.preprocessing)[None], model.preprocessing, model.channels)
        whole = np.repeat(batch, 1 if max_batch else model.input.shape[0] or 1, axis=0)  # (N, C, H, W)
        inputs[f"{WARMUP}/{file}"] = whole.astype("<f4").tobytes()
    if warmups:
        sizes = sorted({*preferred, max_batch} - {0, 1})
        warmups += [Warmup(warmups[0].name, warmups[0].file, size) for size in sizes]
    return tuple(warmups), inputs
