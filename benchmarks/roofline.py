"""The roofline: what this machine could do at best, and how near a row comes to that.

A machine multiplies no faster than its arithmetic and moves numbers no faster than its memory, so a query takes at
least the longer of both times (Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", CACM 52(4), 2009):

    bound = max(Σ multiply-adds of a number format / peak of that format, bytes / bandwidth)

* Multiply-adds are those of the FP32 graph's convolutions and matrix products (``compile.macs``); what a GRU takes is
  not among them. They count for the number formats that the bundle says the row's kernels compute in, where it says
  so: onnxruntime computes FP16 graphs in FP32 on a CPU. Elsewhere they count for the row's precision.
* Bytes are the compulsory traffic of a query, if nothing were read twice and nothing between two layers ever left the
  caches: each weight once in the row's precision, the batch's input and output in float32.
* Peaks are measured (``peaks``), not read off a data sheet, with as many threads as the row has.

No row is faster than its bound but for these reasons, and then ``above`` says which: its weights stay in a cache from
one query to the next, so that memory is not asked for them; or its library multiplies faster than the product that was
measured, or less often (Winograd's convolutions: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
2016). The bound is not raised to what such a row did: measured by itself the row would stand at 100 %, and that the
peak was measured too low would not be seen. Medians hold what the bound does not: of rows on GPUs copies over the bus,
of the scenario ``server`` the wait for earlier queries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import BackendUnavailable, BundleError
from quillrt.runtime.precision import Precision

COPY = "copy"
_FLOAT32 = 4
_WIDTHS = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}  # bytes of a number


@dataclass(frozen=True)
class Peak:
    """The most that a device did of one kind of work.

    Attributes:
        device: ``cpu`` or ``gpu``.
        threads: on a CPU.
        kind: the number format of a matrix product, or ``copy``.
        per_s: multiply-adds a second, of a copy bytes a second, both those read and those written; ``None`` where it
            could not be measured.
        repeats: how many were timed; the fastest counts.
        how: what ran, or why nothing could.
    """

    device: str
    threads: int | None
    kind: str
    per_s: float | None
    repeats: int
    how: str


@dataclass(frozen=True)
class Work:
    """What one image asks of a machine.

    Attributes:
        macs: multiply-adds.
        weights: how many numbers the model has.
        values: how many numbers come in and go out.
    """

    macs: int
    weights: int
    values: int


@dataclass(frozen=True)
class Roofline:
    """A row under the roof.

    Attributes:
        macs: multiply-adds of a query by number format.
        told_by: ``kernels``: these formats are those the bundle says are computed in; ``precision``: the row's own.
        bytes: compulsory traffic of a query.
        peak_macs_per_s: of these formats together; ``None`` where one was not measured.
        peak_bytes_per_s: of the copy; ``None`` where it was not measured.
        bound_ms: a query takes no less by these peaks; ``None`` where one is missing.
        limited_by: ``compute`` or ``memory``.
        fraction: bound / median.
        reason: why there is no bound.
    """

    macs: Mapping[str, int]
    told_by: str
    bytes: int
    peak_macs_per_s: float | None
    peak_bytes_per_s: float | None
    bound_ms: float | None
    limited_by: str | None
    fraction: float | None
    reason: str | None

    @property
    def intensity(self) -> float:
        """Multiply-adds for each byte."""
        return sum(self.macs.values()) / self.bytes

    @property
    def above(self) -> str | None:
        """What explains a row that is faster than its bound; ``None`` for all others."""
        if self.fraction is None or self.fraction <= 1:
            return None
        if self.limited_by == "memory":
            return "its weights stay in a cache from query to query"
        kinds = " and ".join(self.macs)
        return f"its library multiplies faster in {kinds} than the product measured, or less often (Winograd)"


def work_of(bundle: Bundle) -> Work:
    """Return what an image asks of a machine, counted in the bundle's FP32 graph.

    Raises:
        BackendUnavailable: the package onnx is missing.
        BundleError: there is no such graph.
    """
    if find_spec("onnx") is None:
        raise BackendUnavailable("counting multiply-adds needs the package onnx: pip install 'quillrt[compile]'")
    import onnx

    from quillrt.compile.macs import multiply_adds

    graphs = [entry for entry in bundle.entries if entry.kind == "onnx" and entry.precision is Precision.FP32]
    if not graphs:
        raise BundleError(f"expected an FP32 graph to count in, found none in {bundle.path.name}; compile it again")
    model = onnx.load_from_string(bundle.read(graphs[0]))
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    spec = bundle.manifest.model
    shapes = (spec.input.shape[1:], spec.output.shape[1:])
    return Work(
        macs=sum(multiply_adds(model).values()),
        weights=sum(math.prod(tensor.dims) for tensor in floats),
        values=sum(math.prod(each or 1 for each in shape) for shape in shapes),
    )


def formats(work: Work, precision: str | None, computes: Mapping[str, int]) -> dict[str, int]:
    """Return the multiply-adds of one image by number format.

    Args:
        work: of one image.
        precision: of the row.
        computes: the same as the bundle tells it of the row's kernels; empty where it does not. What no kernel names
            counts for the precision.
    """
    own = Precision.INT8.value if precision == Precision.MIXED else str(precision)
    found: Counter[str] = Counter()
    for kind, count in (computes or {own: work.macs}).items():
        found[kind if kind in _WIDTHS else own] += count
    return dict(found)


def roofline(
    work: Work, precision: str | None, computes: Mapping[str, int], batch: int, median_ms: float, peaks: Iterable[Peak]
) -> Roofline:
    """Return where a row stands under the roof that ``peaks`` of its device make.

    Args:
        work: of one image.
        precision: of the row.
        computes: as for ``formats``.
        batch: images in a query.
        median_ms: of a query.
        peaks: by which it is bounded: the best of each kind, for what fewer threads did, more can do as well.
    """
    macs = {kind: count * batch for kind, count in formats(work, precision, computes).items()}
    width = _WIDTHS.get(str(precision), 1)  # mixed: most weights are INT8
    moved = work.weights * width + batch * work.values * _FLOAT32
    told = {peak.kind: peak for peak in sorted(peaks, key=lambda peak: peak.per_s or 0.0)}
    rates = {kind: told[kind].per_s if kind in told else None for kind in (*macs, COPY)}
    speed, bandwidth = _together(macs, rates), rates[COPY]
    bound_ms = limited_by = fraction = reason = None
    if speed is None or bandwidth is None:
        missing = [kind for kind, rate in rates.items() if rate is None]
        reasons = [f"no peak of {kind}: {told[kind].how if kind in told else 'not measured'}" for kind in missing]
        reason = "; ".join(reasons) or "its graph has no convolution and no matrix product"
    else:
        compute_s, memory_s = sum(macs.values()) / speed, moved / bandwidth
        bound_ms = 1e3 * max(compute_s, memory_s)
        limited_by = "compute" if compute_s >= memory_s else "memory"
        fraction = bound_ms / median_ms if median_ms else None  # a clock may be too coarse
    source = "kernels" if computes else "precision"
    return Roofline(macs, source, moved, speed, bandwidth, bound_ms, limited_by, fraction, reason)


def _together(macs: Mapping[str, int], rates: Mapping[str, float | None]) -> float | None:
    """Return the multiply-adds a second of all formats one after the other, ``None`` if that is not known."""
    seconds = [count / rate for kind, count in macs.items() if (rate := rates[kind])]
    return sum(macs.values()) / sum(seconds) if len(seconds) == len(macs) and any(seconds) else None
