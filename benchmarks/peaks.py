"""What this machine can do at best: large matrix products and a large copy, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.progress import Track, no_progress

from .contestants import Contestant
from .process import Remote
from .results import Row
from .roofline import COPY, Peak, Roofline, Work, formats, roofline
from .rotation import free_memory_bytes, last_cache_bytes
from .torch_sessions import set_tf32

_PATIENCE_S = 120.0
_SMALLEST, _LARGEST = 256, 8192  # rows and columns of a product
_LONG_S = 0.05  # no larger product is tried behind one that takes so long
_SECONDS, _LEAST = 0.3, 5  # for each size, and repeats in it
_LEAST_COPY = 2**26  # bytes; the largest caches of small devices have a tenth of that
_GPU_COPY = 2**30  # the largest cache of a GPU has a tenth of that
_MOST_OF_MEMORY = 0.125  # of what is free, for each side of a copy


class Prober:
    """Times one kind of work, in the process it was started for."""

    def product(self, kind: str, gpu: int | None, threads: int) -> tuple[float, int, str]:
        """Return the most multiply-adds a second of a square product in ``kind``, of how many such, and what it was.

        The sides double until one product takes a while: which size suits the caches best is the library's affair.

        Raises:
            BackendUnavailable: nothing here multiplies in ``kind``.
        """
        best = (0.0, 0, "")
        size = _SMALLEST
        while size <= _LARGEST:
            run, wait, name = _numpy_product(kind, gpu, size) if _no_torch() else _product(kind, gpu, threads, size)
            took_s, count = _fastest(run, wait)
            best = max(best, (size**3 / took_s, count, f"{name} of {size} x {size}"))
            if took_s > _LONG_S:
                break
            size *= 2
        return best

    def copy(self, gpu: int | None, threads: int, size: int) -> tuple[float, int, str]:
        """Return the most bytes a second, read and written, of a copy of ``size`` bytes."""
        if _no_torch():
            if gpu is not None:
                raise BackendUnavailable(_needs_torch(COPY))
            source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
            took_s, count = _fastest(lambda: np.copyto(target, source), _nothing)
            return 2 * size / took_s, count, f"numpy.copyto of {size / 2**20:,.0f} MB, one thread"
        torch, device, wait = _torch(gpu, threads)
        taken, given = torch.ones(size, dtype=torch.uint8, device=device), torch.zeros(size, dtype=torch.uint8)
        given = given.to(device)
        took_s, count = _fastest(lambda: given.copy_(taken), wait)
        return 2 * size / took_s, count, f"torch's copy of {size / 2**20:,.0f} MB"


class Peaks:
    """This machine's peaks, each measured when a row first wants it.

    Attributes:
        measured: all so far.
    """

    def __init__(self, gpu: int, log: Path, track: Track = no_progress) -> None:
        self.measured: dict[tuple[str, int | None, str], Peak] = {}
        self._gpu, self._log, self._track = gpu, log, track

    def over(self, rows: Sequence[Row], contestants: Sequence[Contestant], work: Work, threads: int) -> tuple[Row, ...]:
        """Return the rows with their rooflines, measuring first what of the peaks is missing.

        Args:
            rows: of these contestants.
            contestants: who computes in what.
            work: what one image asks of the machine.
            threads: CPU threads of a query.
        """
        known = {each.name: each for each in contestants}
        wanted = dict.fromkeys(
            (*_place(known[row.name], threads), kind)
            for row in rows
            if row.measured
            for kind in (*formats(work, row.precision, known[row.name].computes), COPY)
        )
        missing = [key for key in wanted if key not in self.measured]
        for key in self._track(missing, "peaks", len(missing)):
            self.measured[key] = self._measure(*key)
        return tuple(
            replace(row, roofline=self._roofline(row, row.measured.median_ms, known[row.name], work, threads))
            if row.measured
            else row
            for row in rows
        )

    def _roofline(self, row: Row, median_ms: float, contestant: Contestant, work: Work, threads: int) -> Roofline:
        device, most = _place(contestant, threads)
        peaks = [
            each for each in self.measured.values() if each.device == device and (each.threads or 0) <= (most or 0)
        ]
        return roofline(work, row.precision, contestant.computes, row.batch, median_ms, peaks)

    def _measure(self, device: str, threads: int | None, kind: str) -> Peak:
        gpu = self._gpu if device == "gpu" else None
        try:
            with Remote("quillrt.benchmarks.peaks:Prober", self._log, f"peak of {device} {kind}", threads) as prober:
                if kind == COPY:
                    found = prober.ask(_PATIENCE_S, "copy", gpu, threads or 1, _copy_bytes(gpu))
                else:
                    found = prober.ask(_PATIENCE_S, "product", kind, gpu, threads or 1)
        except BackendUnavailable as error:
            return Peak(device, threads, kind, None, 0, f"not measured: {error}")
        return Peak(device, threads, kind, *found)


def _place(contestant: Contestant, threads: int) -> tuple[str, int | None]:
    return ("gpu", None) if contestant.on_gpu else ("cpu", contestant.threads or threads)


def _copy_bytes(gpu: int | None) -> int:
    """Return how many bytes are more than any cache holds, as far as there is memory for them."""
    if gpu is not None:
        return _GPU_COPY
    wanted = max(_LEAST_COPY, 2 * (last_cache_bytes() or 0))
    return int(min(wanted, _MOST_OF_MEMORY * free_memory_bytes()))


def _fastest(run: Callable[[], Any], wait: Callable[[], Any]) -> tuple[float, int]:
    """Return the seconds of the fastest of several runs, and how many there were; the first is not counted."""
    run()
    wait()
    times: list[float] = []
    begin = perf_counter()
    while len(times) < _LEAST or perf_counter() - begin < _SECONDS:
        start = perf_counter()
        run()
        wait()
        times.append(perf_counter() - start)
    return min(times), len(times)


def _nothing() -> None:
    """There is nothing to wait for: a CPU has done what it was told when the call returns."""


def _no_torch() -> bool:
    return find_spec("torch") is None


def _needs_torch(kind: str) -> str:
    return f"{kind} needs torch: pip install 'quillrt[train]'"


def _numpy_product(kind: str, gpu: int | None, size: int) -> tuple[Callable[[], Any], Callable[[], Any], str]:
    if kind != "fp32" or gpu is not None:
        raise BackendUnavailable(_needs_torch(kind))
    a, b = np.random.default_rng(0).normal(size=(2, size, size)).astype(np.float32)
    return lambda: a @ b, _nothing, "numpy.matmul"


def _torch(gpu: int | None, threads: int) -> tuple[Any, Any, Callable[[], Any]]:
    """Return torch, the device to work on, and what waits for it."""
    import torch

    torch.set_num_threads(threads)
    if gpu is None:
        return torch, torch.device("cpu"), _nothing
    device = torch.device("cuda", gpu)
    return torch, device, lambda: torch.cuda.synchronize(device)


def _product(kind: str, gpu: int | None, threads: int, size: int) -> tuple[Callable[[], Any], Callable[[], Any], str]:
    torch, device, wait = _torch(gpu, threads)
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    types: Mapping[str, Any] = {"fp16": torch.float16, "bf16": torch.bfloat16}
    if kind == "int8":
        a, b = ((20 * each).to(torch.int8) for each in (a, b))
        b = b if gpu is None else b.t()  # by columns, as cuBLASLt's kernels for INT8 take it
        return lambda: torch._int_mm(a, b), wait, "torch._int_mm"
    if kind == "fp8":
        one = torch.ones((), device=device)
        a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()  # it wants the second by columns
        scaled = torch._scaled_mm
        return lambda: scaled(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16), wait, "torch._scaled_mm"
    if gpu is not None:
        set_tf32(torch.backends, allowed=kind == "tf32")
    a, b = (each.to(types.get(kind, torch.float32)) for each in (a, b))
    return lambda: a @ b, wait, "torch.matmul"
