"""From a typed ONNX graph to a TensorRT engine.

It lives in the runtime, free of torch and onnx, so that a device can build its engine from the bundle's graph.
Precision is in the graph alone (casts, Q/DQ): every network is strongly typed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .device import find_gpus
from .errors import BackendUnavailable, BuildError, ConfigError
from .tensorrt_api import TensorRT, load
from .trt_layers import LayerInfo, read_layers

# TensorRT-RTX's portable engines: Ampere and later (its manual, "CPU-Only AOT and TensorRT-RTX Engines"). Turing (7.5)
# comes on request only: TensorRT-RTX has no FP32 matrix product for it, and the others would pay for its sake.
_PORTABLE = ("8.0", "8.6", "8.9", "12.0", "12.1")
_FP8_SINCE = 8.9


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        min_batch: smallest batch the engine takes in one go.
        opt_batch: batch its kernels are chosen for.
        max_batch: largest batch it takes in one go; its buffers have this size.
        workspace_bytes: memory a kernel may use beside its tensors; ``None`` leaves it to TensorRT.
        optimization_level: 0 (quickest build) to 5 (longest search); ``None`` leaves it to TensorRT.
        tf32: let FP32 products round their inputs to TF32, 10 bits of mantissa, on Ampere and later.
        compute_capabilities: GPUs a TensorRT-RTX engine is for, such as ``("7.5",)``; ``None``: Ampere and later.
    """

    min_batch: int = 1
    opt_batch: int = 8
    max_batch: int = 64
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    tf32: bool = False
    compute_capabilities: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise ConfigError(
                f"expected batches 1 <= min <= opt <= max, found {self.min_batch}, {self.opt_batch}, {self.max_batch}"
            )
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ConfigError(f"expected a positive workspace in bytes, found {self.workspace_bytes}")
        if self.optimization_level not in (None, 0, 1, 2, 3, 4, 5):
            raise ConfigError(f"expected an optimization level from 0 to 5, found {self.optimization_level}")


@dataclass(frozen=True)
class BuiltEngine:
    """An engine as its builder wrote it, and how it came to be.

    Attributes:
        engine: the serialized engine.
        family: family of the TensorRT that built it.
        tensorrt_version: version of that TensorRT.
        compute_capabilities: GPUs it runs on; one, this machine's, for full TensorRT.
        seconds: time the build took.
        layers: its kernels in order; empty where TensorRT did not list them.
    """

    engine: bytes
    family: str
    tensorrt_version: str
    compute_capabilities: tuple[str, ...]
    seconds: float
    layers: tuple[LayerInfo, ...]

    def precisions(self) -> dict[str, int]:
        """Return how many convolutions and matrix products were built in each precision, such as ``{"int8": 4}``."""
        return dict(Counter(layer.datatype for layer in self.layers if layer.is_product))


def build_engine(onnx: bytes, family: str, options: BuildOptions = BuildOptions()) -> BuiltEngine:
    """Build a TensorRT engine of ``onnx``, a graph whose types are the precisions wanted.

    Raises:
        ConfigError: the family has no such compute capability.
        BackendUnavailable: the family is not installed or its builder cannot work here.
        BuildError: TensorRT refuses the graph; the message ends with its own reason.
        KeyboardInterrupt: Ctrl-C stopped the build.
    """
    tensorrt = load(family)
    here = None if tensorrt.portable else _this_gpu(tensorrt, options)
    started = time.perf_counter()
    trt = tensorrt.module
    tensorrt.log.clear()
    # Builder, network, parser, configuration, profile and monitor must outlive the build: TensorRT holds bare pointers.
    builder = tensorrt.create("Builder")
    network = builder.create_network(tensorrt.network_flags)
    parser = trt.OnnxParser(network, tensorrt.logger)
    _parse(tensorrt, parser, network, onnx)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the list of layers with their types
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    profile = builder.create_optimization_profile()
    if _shape_profile(network, profile, options) and config.add_optimization_profile(profile) < 0:
        raise BuildError(f"{tensorrt} refused the batch sizes: {tensorrt.log.last_error}")
    capabilities = here or _set_compute_capabilities(tensorrt, network, config, options)
    with _ctrl_c() as pressed:
        monitor = _stop_when(pressed, trt)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
    if pressed.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BuildError(f"{tensorrt} refused the graph: {tensorrt.log.last_error}")
    seconds = time.perf_counter() - started
    layers = read_layers(tensorrt.log.layers)
    return BuiltEngine(bytes(plan), family, tensorrt.version, capabilities, seconds, layers)


def _this_gpu(tensorrt: TensorRT, options: BuildOptions) -> tuple[str]:
    """Return the compute capability of the GPU that full TensorRT builds on and for."""
    if options.compute_capabilities is not None:
        raise ConfigError(f"{tensorrt} builds for the GPU it runs on; only tensorrt-rtx takes compute capabilities")
    try:
        return (find_gpus()[0].compute_capability,)
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


def _shape_profile(network: Any, profile: Any, options: BuildOptions) -> bool:
    """Give ``profile`` the batch sizes of every input with a dynamic batch; tell whether there is one."""
    dynamic = False
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        shape = tuple(tensor.shape)
        if not shape or -1 in shape[1:]:
            raise BuildError(f"expected inputs whose batch alone is dynamic, found {tensor.name!r} of shape {shape}")
        if shape[0] == -1:
            dynamic = True
            batches = (options.min_batch, options.opt_batch, options.max_batch)
            profile.set_shape(tensor.name, *((batch, *shape[1:]) for batch in batches))
    return dynamic


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
        since = _FP8_SINCE if _has_fp8(tensorrt, network) else 0
        chosen = tuple(c for c in _PORTABLE if c in members and float(c) >= since)
    if not chosen or not set(chosen) <= set(members):
        raise ConfigError(f"{tensorrt} builds for compute capability {', '.join(members)}; found {chosen}")
    config.num_compute_capabilities = len(chosen)
    for index, capability in enumerate(chosen):
        if not config.set_compute_capability(members[capability], index):
            raise BuildError(f"{tensorrt} refused compute capability {capability}: {tensorrt.log.last_error}")
    return chosen


def _has_fp8(tensorrt: TensorRT, network: Any) -> bool:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    tensors = (layer.get_output(index) for layer in layers for index in range(layer.num_outputs))
    return any(tensor.dtype == tensorrt.module.DataType.FP8 for tensor in tensors)


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event: TensorRT prints and forgets an exception in its callbacks, and builds on."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_when(pressed: threading.Event, trt: Any) -> Any:
    """Return an ``IProgressMonitor`` that stops the build after the step in which ``pressed`` was set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not pressed.is_set()

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
