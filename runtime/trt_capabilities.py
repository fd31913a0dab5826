"""Which GPUs an engine is built for."""

from __future__ import annotations

from typing import Any

from .build_options import BuildOptions
from .device import Gpu
from .engine_fit import SINCE
from .errors import BuildError, ConfigError
from .precision import Precision
from .tensorrt_api import TensorRT

# TensorRT-RTX's portable engines: Ampere and later (its manual, "CPU-Only AOT and TensorRT-RTX Engines"). Turing (7.5)
# comes on request only: TensorRT-RTX has no FP32 matrix product for it, and the others would pay for its sake.
_PORTABLE = ("8.0", "8.6", "8.9", "12.0", "12.1")
_AMPERE_PLUS = "8.0+"


def fits(tensorrt: TensorRT, network: Any, config: Any, options: BuildOptions, gpu: Gpu | None) -> tuple[str, ...]:
    """Return the compute capabilities that the engine will run on, telling ``config`` where it wants to know."""
    if gpu is None:
        return _set_compute_capabilities(tensorrt, network, config, options)
    return (_AMPERE_PLUS if options.hardware_compatibility == "ampere-plus" else gpu.compute_capability,)


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
