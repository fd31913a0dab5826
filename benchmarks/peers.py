"""Others' ways to measure the same model, as rows beside ours: a bare loop, and the tools that libraries bring along.

A peer takes its turn in the same rounds, in a process of its own. It shows whether our figure can be believed; it never
wins, and its answers are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from shutil import which
from statistics import median

from quillrt.runtime.errors import ConfigError

from .contestants import Contestant
from .intervals import paired_interval
from .peer_workers import LITERT_BENCHMARK
from .results import Beside, Row


@dataclass(frozen=True)
class Peer:
    """Another way to measure.

    Attributes:
        backend: whose row it stands beside, in each precision that has one.
        worker: the class that runs it, in ``peer_workers``.
        module: the package it needs; empty for a program.
        program: the program it needs; empty for a package.
        allowed: by what share our median may differ from it without an explanation.
        differs: what it does otherwise.
    """

    backend: str
    worker: str
    module: str
    program: str
    allowed: float
    differs: str


PEERS = {
    "onnxruntime-loop": Peer(
        "onnxruntime-cpu",
        "OnnxRuntimeLoop",
        "onnxruntime",
        "",
        0.05,
        "ours checks each query's type, shape and NaN before it runs it",
    ),
    "openvino-benchmark-app": Peer(
        "openvino",
        "BenchmarkApp",
        "openvino",
        "",
        0.10,
        "benchmark_app's clock runs inside of Python's call, on one random image over and over, filled before it "
        "starts, its output left in OpenVINO's memory; ours is what the caller waits: each query comes from memory and "
        "is checked, and the answer is taken out",
    ),
    "litert-benchmark": Peer(
        "litert",
        "LiteRTBenchmark",
        LITERT_BENCHMARK,
        "",
        0.10,
        "litert-benchmark uses LiteRT's compiled model, one random image over and over, filled before the clock "
        "starts, its output left in LiteRT's memory; it prints two decimals of a ms",
    ),
    "trtexec": Peer(
        "tensorrt",
        "TrtExec",
        "",
        "trtexec",
        0.10,
        "trtexec adds the copies and kernels of a query by device events and submits the next query before the last is "
        "done; ours is what the caller waits, the launch and the wait included",
    ),
}


def with_peers(names: Sequence[str], contestants: Sequence[Contestant]) -> list[Contestant]:
    """Return the contestants, each followed by the peers beside it, with a reason where one is not here.

    Neighbours in turn meet the same spell of a machine that others slow down now and then.

    Raises:
        ConfigError: no peer has such a name.
    """
    if unknown := sorted(set(names) - set(PEERS)):
        raise ConfigError(f"expected peers out of {', '.join(PEERS)}, found {', '.join(unknown)}; check the names")
    asked = {name: PEERS[name] for name in names}
    found = []
    for row in contestants:
        found.append(row)
        for name, peer in asked.items():
            if row.backend == peer.backend and not row.variant and row.model:
                worker = f"quillrt.benchmarks.peer_workers:{peer.worker}"
                reason = row.reason or _missing(name, peer)
                found.append(replace(row, backend=name, worker=worker, kind="peer", reason=reason))
    return found


def _missing(name: str, peer: Peer) -> str | None:
    if peer.program and which(peer.program) is None:
        return f"peer {name} needs the program {peer.program} on the path"
    top = peer.module.partition(".")[0]
    if peer.module and (find_spec(top) is None or find_spec(peer.module) is None):
        return f"peer {name} needs {peer.module}, which the packages here do not have"
    return None


def beside(rows: Sequence[Row]) -> tuple[Beside, ...]:
    """Return our figure beside each peer's, where both ran."""
    measured = {(row.name, row.batch): row.measured for row in rows}
    found = []
    for row in rows:
        if row.kind != "peer" or row.measured is None:
            continue
        peer = PEERS[row.backend]
        ours = replace(row, backend=peer.backend)
        if (own := measured.get((ours.name, row.batch))) is None:
            continue
        # Paired by round: what disturbs one of them disturbs the other.
        pairs = zip(own.round_medians_ms, row.measured.round_medians_ms, strict=True)
        ratios = [a / b for a, b in pairs]
        difference, bounds = median(ratios) - 1, None
        if len(ratios) > 1:
            low, high = paired_interval(ratios, own.round_builds)
            bounds = (low - 1, high - 1)
        why = _why(bounds, peer)
        found.append(Beside(row.batch, row.name, ours.name, difference, bounds, peer.allowed, why))
    return tuple(found)


def _why(bounds: tuple[float, float] | None, peer: Peer) -> str:
    """Say what a difference comes from, where its interval tells that there is one."""
    if bounds is None:
        return "one round does not tell"
    low, high = bounds
    if -peer.allowed <= low and high <= peer.allowed:
        return "within what is allowed"
    if high < -peer.allowed or peer.allowed < low:
        return peer.differs
    return "the rounds differ too much to tell"
