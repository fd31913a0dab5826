"""Results that were never measured, for what reads results: every figure is given or follows from it."""

from dataclasses import replace

import numpy as np

from quillrt.benchmarks.comparing import judged
from quillrt.benchmarks.cost import Cost
from quillrt.benchmarks.measured import (
    Accuracy,
    Agreement,
    Build,
    Measured,
    Metric,
    Round,
    Warmup,
)
from quillrt.benchmarks.results import Result, Rotation, Row
from quillrt.benchmarks.statistics import percentiles

QUIET = (1.0, 1.01, 0.99, 1.005, 0.995)  # rounds of a quiet machine, in the row's median
NOISY = (0.6, 1.7, 1.0, 0.7, 2.1)
REFERENCE = "eager fp32"


def row(name, batch, median_ms, *, right=1990, images=2000, rounds=QUIET, builds=(0,) * 99, wrong=False, **measured):
    """A row whose rounds have these factors of its median, and ran in ``builds``; ``right`` of the images."""
    backend, precision, *variant = name.split(" ", 2)
    noise = np.random.default_rng(len(name) + batch).gamma(2, 0.05, (len(rounds), 200))
    times = [np.sort(median_ms * factor * (0.9 + each) * 1e6) for factor, each in zip(rounds, noise, strict=True)]
    times = [
        (each * median_ms * factor * 1e6 / np.median(each)).astype(int)
        for factor, each in zip(rounds, times, strict=True)
    ]
    turns = tuple(
        Round(
            builds[n],
            2.0 * n,
            float(each.sum()) / 1e9,
            len(each),
            median_ms * factor,
            Warmup(20, 0.1, stable=True),
            tuple(map(int, each)),
        )
        for n, (factor, each) in enumerate(zip(rounds, times, strict=True))
    )
    wall_s = sum(each.wall_s for each in turns)
    absent = dict.fromkeys(("device_memory_bytes", "build_s", "joules_per_image"), "nobody tells")
    lost = max(0, 1990 - right)
    told = percentiles([ns / 1e6 for each in turns for ns in each.latencies_ns])
    return Row(
        backend,
        precision,
        batch,
        variant=" ".join(variant),
        measured=Measured(
            metric=Metric(
                "p90_ms", told["p90"], higher_is_better=False, rounds=tuple(each.median_ms for each in turns)
            ),
            queries=200 * len(turns),
            wall_s=wall_s,
            images_per_second=200 * len(turns) * batch / wall_s,
            median_ms=float(np.median([each.median_ms for each in turns])),
            percentiles_ms=told,
            rounds=turns,
            builds=(Build(100.0, 2.0, None, median_ms),),
            build_spread=None,
            cost=Cost(100.0, 2.0, None, 50 * 2**20, None, 300_000, None, None, None, absent),
            agreement=Agreement(REFERENCE, images, right / images, 0.5, 0.9 if wrong else 1e-6, 1e-4),
            accuracy=Accuracy(
                images, right, right / images - 0.004, min(1.0, right / images + 0.003), lost, 0, 0.5**lost
            ),
            **measured,
        ),
    )


def absent(name, batch, reason):
    backend, _, precision = name.partition(" ")
    return Row(backend, precision or None, batch, reason=reason)


def result(*rows, **changes):
    """A result of these rows, judged by the rule that bench judges by."""
    rows, baseline, winners = judged(sorted(rows, key=lambda each: each.batch))
    moment = {"load_average": 0.1, "cpu_mhz": 2000.0, "temperature_c": None, "gpus": []}
    settings = {
        "batches": sorted({each.batch for each in rows}),
        **{
            "seconds": 1.0,
            "rounds": 5,
            "threads": 1,
            "scenario": "single-stream",
            "builds": 1,
            "seed": 0,
            "images": 2000,
        },
        **{"latency_bound_ms": None, "preset": None, "source": "mnist test", "provider_options": {}},
    }
    device = {
        "cpu": "Some CPU",
        "architecture": "x86_64",
        "cores": 2,
        "instructions": ["avx2"],
        "gpus": [],
        "gpu_reason": "none",
    }
    environment = {
        "time": "2026-01-01T00:00:00+00:00",
        "device": device,
        **{"logical_cores": 2, "affinity": [0, 1], "governor": None, "turbo": None, "l3_bytes": None},
        **{"memory_bytes": 2**33, "memory_available_bytes": None, "on_battery": None, "nvidia_driver": None},
        "container": {"cgroup": None, "cpu_limit_cores": None, "memory_limit_bytes": None},
        **{"system": "Debian", "kernel": "6.1", "python": "3.11.7", "packages": {"quillrt": "0.1.0", "numpy": "2.4.6"}},
        **{"git": {"commit": "a" * 40, "changed": False}, "start": moment, "end": moment},
    }
    made = Result(
        settings,
        environment,
        tuple(rows),
        Rotation("mnist test", 2000, 2000, 6_272_000, None),
        baseline,
        winners,
        model={"name": "digits.quill", "sha256": "0" * 64},
    )
    return replace(made, **changes)
