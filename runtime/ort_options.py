"""Options of onnxruntime's GPU providers: those a user may set, what they may say, and why not the others.

The names are those of ONNX Runtime 1.20 to 1.31 ("CUDA Execution Provider" and "TensorRT Execution Provider" in its
documentation); ``_OURS`` are quillrt's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .build_options import Profile
from .errors import ConfigError

_FLAGS = {"0": False, "1": True, "false": False, "true": True}
_FLAG = tuple(_FLAGS)
_NUMBER = "a whole number"
_OPERATORS = "operators with commas between"
_Kind = tuple[str, ...] | str  # the values there are, or what they are called

_OURS: dict[str, _Kind] = {"io_binding": _FLAG, "cpu_nodes": _OPERATORS}
_BATCHES: dict[str, _Kind] = {"min_batch": _NUMBER, "opt_batch": _NUMBER, "max_batch": _NUMBER}
_CUDA: dict[str, _Kind] = {
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "cudnn_conv1d_pad_to_nc1d": _FLAG,
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "cudnn_conv_use_max_workspace": _FLAG,
    "enable_cuda_graph": _FLAG,
    "fuse_conv_bias": _FLAG,
    "gpu_mem_limit": _NUMBER,
    "prefer_nhwc": _FLAG,
}
_TENSORRT: dict[str, _Kind] = {
    "trt_auxiliary_streams": _NUMBER,
    "trt_builder_optimization_level": ("0", "1", "2", "3", "4", "5"),
    "trt_context_memory_sharing_enable": _FLAG,
    "trt_cuda_graph_enable": _FLAG,
    "trt_engine_cache_enable": _FLAG,
    "trt_max_workspace_size": _NUMBER,
    "trt_sparsity_enable": _FLAG,
    "trt_timing_cache_enable": _FLAG,
}
_PROVIDERS = {"onnxruntime-cuda": _CUDA, "onnxruntime-tensorrt": _TENSORRT}
OPTIONS: dict[str, dict[str, _Kind]] = {
    "onnxruntime-cuda": {**_OURS, **_CUDA},
    "onnxruntime-tensorrt": {**_OURS, **_BATCHES, **_TENSORRT},
}
GRAPH_OPTION = {"onnxruntime-cuda": "enable_cuda_graph", "onnxruntime-tensorrt": "trt_cuda_graph_enable"}

_IN_THE_GRAPH = "precision lives in the graph, choose it with --precision"
_BY_BATCHES = "give min_batch, opt_batch and max_batch"
_NEEDS_FLAGS = "the provider has it only with its own precision options, and precision lives in the graph"
_KEPT_BY_US = "engines are kept where QUILLRT_CACHE says"
_SET_HERE = {
    **dict.fromkeys(("use_tf32", "trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"), _IN_THE_GRAPH),
    **dict.fromkeys(("trt_int8_calibration_table_name", "trt_layer_norm_fp32_fallback"), _IN_THE_GRAPH),
    **dict.fromkeys(("trt_dla_enable", "trt_dla_core"), _NEEDS_FLAGS),
    **dict.fromkeys(("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"), _BY_BATCHES),
    **dict.fromkeys(("trt_engine_cache_path", "trt_engine_cache_prefix", "trt_timing_cache_path"), _KEPT_BY_US),
}


@dataclass(frozen=True)
class Tuning:
    """Provider options, sorted by who reads them.

    Attributes:
        provider: what onnxruntime's provider gets, in its words.
        io_binding: run on buffers that stay on the device.
        graph: replay a captured CUDA graph.
        cpu_nodes: operators that may stay on the CPU, because they only compute shapes.
        batches: what a TensorRT engine is built for.
    """

    provider: Mapping[str, str] = field(default_factory=dict)
    io_binding: bool = True
    graph: bool = False
    cpu_nodes: tuple[str, ...] = ()
    batches: Profile = field(default_factory=Profile)


def check_options(backend: str, options: Mapping[str, str]) -> None:
    """Raise unless ``backend`` takes every one of ``options``.

    Raises:
        ConfigError: it has no options, or one has a name or a value that it does not know.
    """
    if options:
        parse_options(backend, options)


def for_batch(backend: str, options: Mapping[str, str], batch: int) -> Mapping[str, str]:
    """Return ``options`` with an engine for queries of ``batch`` images, where ``backend`` builds one for batches.

    Batches that ``options`` have stay as they are. One batch size is what a CUDA graph of onnxruntime-tensorrt needs.
    """
    if not _BATCHES.keys() <= OPTIONS.get(backend, {}).keys() or _BATCHES.keys() & options.keys():
        return options
    return {**options, **dict.fromkeys(_BATCHES, str(batch))}


def parse_options(backend: str, options: Mapping[str, str]) -> Tuning:
    """Return ``options`` of ``backend`` as its session needs them.

    Raises:
        ConfigError: as ``check_options``, or two options exclude each other.
    """
    kinds = OPTIONS.get(backend)
    if kinds is None:
        raise ConfigError(
            f"expected no provider options for backend {backend}, which has none, found {', '.join(options)}; "
            f"leave them out, or choose --backend {' or '.join(OPTIONS)}"
        )
    for key, value in options.items():
        _check(backend, key, value, kinds)
    flags = {key: _FLAGS[value.lower()] for key, value in options.items() if kinds[key] is _FLAG}
    batches = _batches({key: int(value) for key, value in options.items() if key in _BATCHES})
    names = options.get("cpu_nodes", "").split(",")
    provider = {key: str(flags.get(key, value)) for key, value in options.items() if key in _PROVIDERS[backend]}
    graph_option = GRAPH_OPTION[backend]
    tuning = Tuning(
        provider=provider,
        io_binding=flags.get("io_binding", True),
        graph=flags.get(graph_option, False),
        cpu_nodes=tuple(name.strip() for name in names if name.strip()),
        batches=batches,
    )
    if tuning.graph and not tuning.io_binding:
        raise ConfigError(
            f"expected io_binding=1 with {graph_option}=1, found io_binding=0: a CUDA graph reads and writes the "
            "addresses it was captured with; leave one of the two out"
        )
    if tuning.graph and backend == "onnxruntime-tensorrt" and batches.smallest[0] != batches.largest[0]:
        # Its provider keeps one graph for a session, whatever the run's gpu_graph_id.
        raise ConfigError(
            f"expected one batch size with {graph_option}=1, found {batches.smallest[0]} to {batches.largest[0]}; "
            "give min_batch, opt_batch and max_batch the same number"
        )
    return tuning


def _batches(given: Mapping[str, int]) -> Profile:
    """Return the batches of an engine; an optimum that is not given stays between the others."""
    default = Profile()
    least, most = given.get("min_batch", default.smallest[0]), given.get("max_batch", default.largest[0])
    best = given.get("opt_batch", min(max(default.best[0], least), most))
    return Profile((least,), (best,), (most,))


def _check(backend: str, key: str, value: str, kinds: Mapping[str, _Kind]) -> None:
    if key in _SET_HERE:
        raise ConfigError(f"expected an option of {backend} that is left to you, found {key}: {_SET_HERE[key]}")
    if key not in kinds:
        raise ConfigError(f"expected an option of {backend} out of {', '.join(kinds)}, found {key!r}; check the name")
    kind = kinds[key]
    if isinstance(kind, tuple):
        fits, said = value in kind or (kind is _FLAG and value.lower() in kind), f"one of {', '.join(kind)}"
    else:
        fits, said = value.isdecimal() if kind is _NUMBER else bool(value.strip()), kind
    if not fits:
        raise ConfigError(f"expected {key} to be {said}, found {value!r}; give {key}=VALUE with such a value")
