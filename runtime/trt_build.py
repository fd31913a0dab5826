"""From a typed ONNX graph to a TensorRT engine.

It lives in the runtime, free of torch and onnx, so that a device can build its engine from the bundle's graph.
Precision is in the graph alone (casts, Q/DQ): every network is strongly typed.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .build_options import DEFAULTS, HARDWARE_COMPATIBILITY, VERBOSITY, BuildOptions
from .cuda import open_cuda
from .device import Gpu, find_gpu
from .errors import BackendUnavailable, BuildError, ConfigError
from .progress import Phases, no_phases
from .tensorrt_api import TensorRT, load
from .trt_capabilities import fits
from .trt_layers import LayerInfo, read_layers
from .trt_monitor import ctrl_c, monitor_of
from .trt_profiles import add_profiles
from .trt_timing import TimingCache


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
            "seconds": round(self.seconds, 3),
            **({"gpu": self.gpu} if self.gpu else {}),
            **({"options": self.options.changed} if self.options.changed else {}),
        }


def build_engine(
    onnx: bytes,
    family: str,
    options: BuildOptions = DEFAULTS,
    timing_cache: Path | None = None,
    phases: Phases = no_phases,
    device: int = 0,
) -> BuiltEngine:
    """Build a TensorRT engine of ``onnx``, a graph whose types are the precisions wanted.

    Args:
        onnx: the graph.
        family: out of ``FAMILIES``.
        options: how to build.
        timing_cache: file of earlier builds' timings, which this one uses and adds to.
        phases: shows progress.
        device: index of the GPU to build on; TensorRT-RTX needs none.

    Raises:
        ConfigError: this version lacks one of the options, or the timing cache cannot be written.
        BackendUnavailable: the family is not installed or its builder cannot work here.
        BuildError: TensorRT refuses the graph; the message ends with its own reason.
        KeyboardInterrupt: Ctrl-C stopped the build.
    """
    tensorrt = load(family)
    tensorrt.check(options, device)
    if tensorrt.portable:
        return _build(tensorrt, onnx, options, timing_cache, phases, None)
    gpu = _gpu(tensorrt, device)
    with open_cuda(device).current():  # TensorRT builds on the GPU that is
        return _build(tensorrt, onnx, options, timing_cache, phases, gpu)


def _build(
    tensorrt: TensorRT, onnx: bytes, options: BuildOptions, timing_cache: Path | None, phases: Phases, gpu: Gpu | None
) -> BuiltEngine:
    """Build on and for ``gpu``, which is current; ``None`` where none is needed."""
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
    profiles = add_profiles(tensorrt, builder, network, config, options.profiles)
    cache = None if timing_cache is None else TimingCache(timing_cache, tensorrt, config)
    capabilities = fits(tensorrt, network, config, options, gpu)
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
    return BuiltEngine(bytes(plan), tensorrt.family, tensorrt.version, capabilities, seconds, layers, options, name)


def _gpu(tensorrt: TensorRT, device: int) -> Gpu:
    """Return the GPU that full TensorRT builds on and for."""
    try:
        return find_gpu(device)
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
