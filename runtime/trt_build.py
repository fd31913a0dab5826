"""From a typed ONNX graph to a TensorRT engine.

It lives in the runtime, free of torch and onnx, so that a device can build its engine from the bundle's graph.
Precision is in the graph alone (casts, Q/DQ): every network is strongly typed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .build_options import DEFAULTS, HARDWARE_COMPATIBILITY, VERBOSITY, BuildOptions, Profile, Shape
from .device import Gpu, find_gpus
from .engine_fit import SINCE
from .errors import BackendUnavailable, BuildError, ConfigError
from .precision import Precision
from .progress import Phases, no_phases
from .tensorrt_api import TensorRT, load
from .trt_layers import LayerInfo, read_layers
from .trt_monitor import ctrl_c, monitor_of
from .trt_timing import TimingCache

# TensorRT-RTX's portable engines: Ampere and later (its manual, "CPU-Only AOT and TensorRT-RTX Engines"). Turing (7.5)
# comes on request only: TensorRT-RTX has no FP32 matrix product for it, and the others would pay for its sake.
_PORTABLE = ("8.0", "8.6", "8.9", "12.0", "12.1")
AMPERE_PLUS = "8.0+"


@dataclass(frozen=True)
class BuiltEngine:
    """An engine as its builder wrote it, and how it came to be.

    Attributes:
        engine: the serialized engine.
        family: family of the TensorRT that built it.
        tensorrt_version: version of that TensorRT.
        compute_capabilities: GPUs it runs on, such as ``("8.7",)`` or ``("8.0+",)`` for that one and later.
        seconds: time the build took.
        layers: its kernels in order; empty where TensorRT did not list them.
        options: how it was built.
        gpu: name of the GPU it was built on; empty for TensorRT-RTX, which needs none.
    """

    engine: bytes
    family: str
    tensorrt_version: str
    compute_capabilities: tuple[str, ...]
    seconds: float
    layers: tuple[LayerInfo, ...]
    options: BuildOptions = DEFAULTS
    gpu: str = ""

    def precisions(self) -> dict[str, int]:
        """Return how many convolutions and matrix products were built in each precision, such as ``{"int8": 4}``."""
        return dict(Counter(layer.datatype for layer in self.layers if layer.is_product))

    def facts(self) -> dict[str, Any]:
        """Return what it fits and how it was built, as a bundle's ``built_for``."""
        return {
            "tensorrt": self.tensorrt_version,
            "compute_capabilities": list(self.compute_capabilities),
            "products": self.precisions(),
            **({"gpu": self.gpu} if self.gpu else {}),
            **({"options": self.options.changed} if self.options.changed else {}),
        }


def build_engine(
    onnx: bytes,
    family: str,
    options: BuildOptions = DEFAULTS,
    timing_cache: Path | None = None,
    phases: Phases = no_phases,
) -> BuiltEngine:
    """Build a TensorRT engine of ``onnx``, a graph whose types are the precisions wanted.

    Args:
        onnx: the graph.
        family: out of ``FAMILIES``.
        options: how to build.
        timing_cache: file of earlier builds' timings, which this one uses and adds to.
        phases: shows progress.

    Raises:
        ConfigError: this version lacks one of the options, or the timing cache cannot be written.
        BackendUnavailable: the family is not installed or its builder cannot work here.
        BuildError: TensorRT refuses the graph; the message ends with its own reason.
        KeyboardInterrupt: Ctrl-C stopped the build.
    """
    tensorrt = load(family)
    tensorrt.check(options)
    gpu = None if tensorrt.portable else _this_gpu(tensorrt)
    started = time.perf_counter()
    trt = tensorrt.module
    tensorrt.log.clear()
    # Builder, network, parser, configuration, profiles and monitor must outlive the build: TensorRT keeps pointers.
    builder = tensorrt.create("Builder")
    network = builder.create_network(tensorrt.network_flags)
    parser = trt.OnnxParser(network, tensorrt.logger)
    _parse(tensorrt, parser, network, onnx)
    config = builder.create_builder_config()
    _configure(tensorrt, builder, config, options)
    profiles = _add_profiles(tensorrt, builder, network, config, options.profiles)
    cache = None if timing_cache is None else TimingCache(timing_cache, tensorrt, config)
    capabilities = _fits(tensorrt, network, config, options, gpu)
    with ctrl_c() as pressed:
        monitor = monitor_of(trt, phases, pressed)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
    del profiles
    if pressed.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BuildError(f"{tensorrt} refused the graph: {tensorrt.log.last_error}")
    if cache is not None:
        cache.keep()
    seconds = time.perf_counter() - started
    layers = read_layers(tensorrt.log.layers)
    name = "" if gpu is None else gpu.name
    return BuiltEngine(bytes(plan), family, tensorrt.version, capabilities, seconds, layers, options, name)


def _this_gpu(tensorrt: TensorRT) -> Gpu:
    """Return the GPU that full TensorRT builds on and for."""
    try:
        return find_gpus()[0]
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{tensorrt.family}'s builder needs an NVIDIA GPU, found none: {error}") from error


def _parse(tensorrt: TensorRT, parser: Any, network: Any, onnx: bytes) -> None:
    parsed = parser.parse(onnx)
    if parser.num_errors:
        error = parser.get_error(0)
        where = f" at node {error.node_name()!r} ({error.node_operator()})" if error.node_operator() else ""
        raise BuildError(f"{tensorrt} cannot read the ONNX graph{where}: {' '.join(error.desc().split())}")
    # An empty file parses well, and so did garbage in older versions.
    if not parsed or network.num_outputs == 0:
        raise BuildError(f"{tensorrt} expected an ONNX graph with outputs, found none in {len(onnx)} bytes")


def _configure(tensorrt: TensorRT, builder: Any, config: Any, options: BuildOptions) -> None:
    """Give ``config`` all of ``options`` but the shapes and the GPUs.

    Raises:
        ConfigError: this board has no such DLA core.
    """
    trt = tensorrt.module
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, VERBOSITY[options.verbosity])
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    for wanted, flag in (
        (options.sparsity, "SPARSE_WEIGHTS"),
        (options.version_compatible, "VERSION_COMPATIBLE"),
        (options.refit, "REFIT"),
        (options.strip, "STRIP_PLAN"),
        (options.gpu_fallback, "GPU_FALLBACK"),
    ):
        if wanted:
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.max_aux_streams is not None:
        config.max_aux_streams = options.max_aux_streams
    if options.hardware_compatibility is not None:
        level = HARDWARE_COMPATIBILITY[options.hardware_compatibility]
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if options.dla_core is not None:
        if options.dla_core >= builder.num_DLA_cores:
            found = builder.num_DLA_cores or "none"
            raise ConfigError(f"expected a DLA core below their number, found core {options.dla_core} of {found}")
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core


def _add_profiles(
    tensorrt: TensorRT, builder: Any, network: Any, config: Any, profiles: Sequence[Profile]
) -> list[Any]:
    """Give ``config`` a profile of every input with a dynamic batch, and return TensorRT's profiles.

    Raises:
        BuildError: an input has another rank or other sizes, more than the batch is dynamic, or TensorRT refuses.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for tensor in inputs:
        shape = tuple(tensor.shape)
        if not shape or -1 in shape[1:]:
            raise BuildError(f"expected inputs whose batch alone is dynamic, found {tensor.name!r} of shape {shape}")
    dynamic = [tensor for tensor in inputs if tensor.shape[0] == -1]
    if not dynamic:
        batch = next((tensor.shape[0] for tensor in inputs), None)
        if tuple(profiles) != DEFAULTS.profiles:
            raise BuildError(f"expected no --shapes for a graph of fixed batch {batch}, found {profiles[0]}")
        return []
    made = []
    for profile in profiles:
        added = builder.create_optimization_profile()
        for tensor in dynamic:
            sizes = (profile.smallest, profile.best, profile.largest)
            added.set_shape(tensor.name, *(_whole(size, tensor.name, tuple(tensor.shape)) for size in sizes))
        if config.add_optimization_profile(added) < 0:
            raise BuildError(f"{tensorrt} refused the shapes {profile}: {tensorrt.log.last_error}")
        made.append(added)
    return made


def _whole(given: Shape, name: str, shape: Shape) -> Shape:
    """Return ``given`` with the sizes that follow the batch in ``shape``, the input's own."""
    if len(given) > 1 and given[1:] != shape[1:]:
        wanted = "x".join(["N", *map(str, shape[1:])])
        raise BuildError(f"expected shapes {wanted} for the input {name!r}, found {'x'.join(map(str, given))}")
    return given[0], *shape[1:]


def _fits(tensorrt: TensorRT, network: Any, config: Any, options: BuildOptions, gpu: Gpu | None) -> tuple[str, ...]:
    """Return the compute capabilities that the engine will run on, telling ``config`` where it wants to know."""
    if gpu is None:
        return _set_compute_capabilities(tensorrt, network, config, options)
    return (AMPERE_PLUS if options.hardware_compatibility == "ampere-plus" else gpu.compute_capability,)


def _set_compute_capabilities(tensorrt: TensorRT, network: Any, config: Any, options: BuildOptions) -> tuple[str, ...]:
    """Tell ``config`` which GPUs the engine is for, and return them."""
    members = {
        f"{name[2:-1]}.{name[-1]}": member
        for name, member in tensorrt.module.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    if options.compute_capabilities is not None:
        chosen = options.compute_capabilities
    else:
        since = SINCE[Precision.FP8] if _has_fp8(tensorrt, network) else 0
        chosen = tuple(c for c in _PORTABLE if c in members and float(c) >= since)
    if not chosen or not set(chosen) <= set(members):
        raise ConfigError(f"{tensorrt} builds for compute capability {', '.join(members)}; found {', '.join(chosen)}")
    config.num_compute_capabilities = len(chosen)
    for index, capability in enumerate(chosen):
        if not config.set_compute_capability(members[capability], index):
            raise BuildError(f"{tensorrt} refused compute capability {capability}: {tensorrt.log.last_error}")
    return chosen


def _has_fp8(tensorrt: TensorRT, network: Any) -> bool:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    tensors = (layer.get_output(index) for layer in layers for index in range(layer.num_outputs))
    return any(tensor.dtype == tensorrt.module.DataType.FP8 for tensor in tensors)
