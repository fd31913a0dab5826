"""onnxruntime's I/O binding: images and logits in memory of the device, bound once for each batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ort import load
from .spec import ModelSpec

# Each size keeps its memory, and its CUDA graph where there are graphs, as long as the session lives.
_MOST_SIZES = 16
# Of the run option gpu_graph_id (onnxruntime_run_options_config_keys.h): -1 captures nothing, 0 is its own.
_GRAPH_ID = "gpu_graph_id"
_NO_GRAPH = -1


class Bindings:
    """Buffers on the device for every batch size in use.

    A captured CUDA graph reads and writes the addresses it was captured with, so they stay; sizes beyond the first
    16 share one place that is made anew when the size changes, and are never captured.

    Args:
        session: onnxruntime's.
        spec: what goes in and comes out.
        device: onnxruntime's name of the kind of device, and its index.
        graphs: the provider captures CUDA graphs: one for each batch size.
    """

    def __init__(self, session: Any, spec: ModelSpec, device: tuple[str, int], *, graphs: bool) -> None:
        self._session, self._spec, self._device, self._graphs = session, spec, device, graphs
        self._kept: dict[int, _Bound] = {}
        self._passing: tuple[int, _Bound] | None = None

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (N, K) for images (N, C, H, W), in memory of the caller's own."""
        return self._bound(len(images)).run(images)

    def _bound(self, batch: int) -> _Bound:
        if batch in self._kept:
            return self._kept[batch]
        if len(self._kept) < _MOST_SIZES:
            self._kept[batch] = self._bind(batch, len(self._kept) + 1)
            return self._kept[batch]
        if self._passing is None or self._passing[0] != batch:
            self._passing = None  # its memory goes before new memory is asked for
            self._passing = batch, self._bind(batch, _NO_GRAPH)
        return self._passing[1]

    def _bind(self, batch: int, graph: int) -> _Bound:
        return _Bound(self._session, self._spec, batch, self._device, graph if self._graphs else None)


class _Bound:
    """One batch size: its two buffers, bound to a session."""

    def __init__(self, session: Any, spec: ModelSpec, batch: int, device: tuple[str, int], graph: int | None) -> None:
        onnxruntime = load()
        allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._session = session
        self._images = allocate((batch, *spec.input.shape[1:]), np.float32, *device)
        self._logits = allocate((batch, len(spec.labels)), np.float32, *device)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(spec.input.name, self._images)
        self._binding.bind_ortvalue_output(spec.output.name, self._logits)
        self._options = onnxruntime.RunOptions()
        if graph is not None:
            self._options.add_run_config_entry(_GRAPH_ID, str(graph))

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self._images.update_inplace(np.ascontiguousarray(images))
        self._session.run_with_iobinding(self._binding, self._options)
        # OrtValue.numpy() of memory on the CPU is that memory itself, which the next query overwrites; this copies.
        logits: NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
        return logits
