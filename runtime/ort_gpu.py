"""ONNX Runtime on NVIDIA GPUs: its CUDA and its TensorRT provider, without a fall to the CPU that nobody asked for."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .device import find_gpu
from .errors import BackendUnavailable, BundleError, ConfigError
from .ort import OrtSession, load
from .ort_binding import Bindings
from .ort_engines import EngineFolder, load_tensorrt, profile_shapes
from .ort_options import GRAPH_OPTION, parse_options
from .session import SessionOptions

# onnxruntime_session_options_config_keys.h: the first since 1.16, the second, and what reads it, since 1.24.
_NO_CPU = "session.disable_cpu_ep_fallback"
_RECORD = "session.record_ep_graph_assignment_info"
_REFUSED = "fallback to CPU EP has been explicitly disabled"  # what onnxruntime says where the first forbids


class CudaSession(OrtSession):
    """An ONNX graph on onnxruntime's CUDA provider; it answers one query at a time.

    It runs on buffers bound once (``io_binding``), by a captured graph for each batch size where asked
    (``enable_cuda_graph``).
    """

    _bindings: Bindings | None
    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"
    needs = "CUDA or cuDNN libraries"
    library: ClassVar[str] = "CUDA"
    memory: ClassVar[str] = "cuda"

    @classmethod
    def unavailable(cls, device: int = 0) -> str | None:
        """Return why this backend cannot work on the GPU ``device``, or ``None``."""
        if find_spec("onnxruntime") is None:
            return f"backend {cls.name} needs the package onnxruntime-gpu: pip install onnxruntime-gpu"
        onnxruntime = load()
        if cls.provider not in onnxruntime.get_available_providers():
            return (
                f"backend {cls.name} needs onnxruntime-gpu, but the installed onnxruntime {onnxruntime.__version__} "
                f"has no {cls.library}: pip uninstall onnxruntime, pip install onnxruntime-gpu"
            )
        try:
            find_gpu(device)
        except BackendUnavailable as error:
            return f"backend {cls.name} needs an NVIDIA GPU: {error}"
        return None

    def close(self) -> None:
        """Free the buffers, then the session they are bound to; a second call does nothing."""
        self._bindings = None
        super().close()

    def provider_options(self, model: bytes, options: SessionOptions) -> dict[str, Any]:
        """Return what the provider gets beside the user's options."""
        return {"device_id": options.device, "use_tf32": int(options.tf32)}

    def _open(self, model: bytes, options: SessionOptions) -> Any:
        asked = {GRAPH_OPTION[self.name]: "1"} if options.cuda_graph else {}
        self._tuning = parse_options(self.name, {**asked, **options.provider_options})
        self._bindings = None
        _preload()
        session = self._place(model, options, {**self.provider_options(model, options), **self._tuning.provider})
        if self._tuning.io_binding:
            device = self.memory, options.device
            self._bindings = Bindings(session, self._spec, device, graphs=self._tuning.graph)
        return session

    def _place(self, model: bytes, options: SessionOptions, provider_options: dict[str, Any]) -> Any:
        """Return a session whose nodes the provider has, all but those that the user lets stay on the CPU.

        Raises:
            ConfigError: this onnxruntime cannot tell where nodes are, which ``cpu_nodes`` needs.
            BackendUnavailable: the provider does not start, or leaves nodes to the CPU.
            BundleError: onnxruntime refuses the model.
        """
        allowed = self._tuning.cpu_nodes
        if not allowed:
            strict = self._settings(options)
            strict.add_session_config_entry(_NO_CPU, "1")
            try:
                return self._start(model, strict, provider_options)
            except BundleError as error:
                if _REFUSED not in str(error):
                    raise
        # A provider that does not start looks the same as one that leaves nodes: without the ban onnxruntime tells.
        telling = self._settings(options)
        telling.add_session_config_entry(_RECORD, "1")
        session = self._start(model, telling, provider_options)
        left = self._left(session, allowed)
        if left is None and allowed:
            raise ConfigError(
                f"expected onnxruntime 1.24 or later with cpu_nodes, found {load().__version__}; "
                "upgrade it, or leave cpu_nodes out"
            )
        if left or not allowed:
            raise BackendUnavailable(self._spoken(left or Counter()))
        return session

    def _left(self, session: Any, allowed: tuple[str, ...]) -> Counter[str] | None:
        """Count by operator the nodes elsewhere than on the provider or ``allowed``; ``None`` where it is not told."""
        if not hasattr(session, "get_provider_graph_assignment_info"):
            return None
        parts = (part for part in session.get_provider_graph_assignment_info() if part.ep_name != self.provider)
        return Counter(node.op_type for part in parts for node in part.get_nodes() if node.op_type not in allowed)

    def _spoken(self, left: Counter[str]) -> str:
        nodes = ", ".join(f"{operator} × {count}" for operator, count in sorted(left.items())) or "some of them"
        names = ",".join(sorted({*left, *self._tuning.cpu_nodes})) or "OPERATOR,OPERATOR"
        return (
            f"{self.name}: expected every node on {self.provider}, found on the CPU: {nodes}; choose --backend "
            f"onnxruntime-cpu, or if these only compute shapes, let them: --provider-option cpu_nodes={names}"
        )

    def _query(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return super()._query(batch) if self._bindings is None else self._bindings.run(batch)


class OrtTensorRTSession(CudaSession):
    """An ONNX graph on onnxruntime's TensorRT provider, which builds its engine when the session is opened.

    The provider types a network strongly as long as none of its precision options is set, so precision is the graph's.
    """

    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    needs = "TensorRT, CUDA or cuDNN libraries"
    library = "TensorRT"

    def provider_options(self, model: bytes, options: SessionOptions) -> dict[str, Any]:
        """Return what the provider gets beside the user's options."""
        self._engines = EngineFolder(options.cache.folder, model, self._tuning, options.device)
        shapes = profile_shapes(self._spec.input, self._tuning.batches)
        return {"device_id": options.device, **self._engines.provider_options(), **shapes}

    def _settings(self, options: SessionOptions) -> Any:
        """Leave the graph as it is typed: onnxruntime would quantize biases, which TensorRT does not take."""
        settings = super()._settings(options)
        settings.graph_optimization_level = load().GraphOptimizationLevel.ORT_DISABLE_ALL
        return settings

    def _start(self, model: bytes, settings: Any, provider_options: Any) -> Any:
        """Start; a kept engine that cannot be loaded, for the provider may have died writing it, is built again."""
        load_tensorrt()
        kept = self._engines.files()
        try:
            return super()._start(model, settings, provider_options)
        except (BackendUnavailable, BundleError) as error:
            if _REFUSED in str(error) or not kept:
                raise
        self._engines.drop()
        return super()._start(model, settings, provider_options)

    def _query(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cut what is above the engine's largest batch; below its smallest, images are repeated and not read."""
        if self._spec.input.shape[0] is not None:
            return super()._query(batch)
        least, most = self._tuning.batches.smallest[0], self._tuning.batches.largest[0]
        logits = np.empty((len(batch), len(self._spec.labels)), np.float32)
        for start in range(0, len(batch), most):
            part = batch[start : start + most]
            sent = part if len(part) >= least else np.resize(part, (least, *part.shape[1:]))
            logits[start : start + most] = super()._query(sent)[: len(part)]
        return logits


def _preload() -> None:
    """Load CUDA and cuDNN from the nvidia-* packages that pip installed."""
    onnxruntime = load()
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        with redirect_stdout(sys.stderr):  # where it prints what it misses
            onnxruntime.preload_dlls()
