"""What a sweep changes from row to row: images in a query up to the knee, CPU threads, the images' size.

The knee of a row is the smallest batch with ``NEARLY`` of the best throughput that it has in the sweep: larger ones
cost latency and bring little. A row of which only the largest batch has that has none yet. Throughputs are the medians
of the rounds': what disturbs one of them moves no knee.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from statistics import median

from quillrt.runtime.errors import ConfigError

from .contestants import Contestant
from .results import Row

SWEEPS = ("batch", "threads", "size")
SIZES = (28, 32, 48, 64)  # pixels a side
NEARLY = 0.95
_LARGEST_BATCH = 1024


def check_sweeps(names: Collection[str], scenario: str) -> None:
    """Raise unless there are such sweeps, and the scenario has rows for them.

    Raises:
        ConfigError: there is none of that name, or queries arrive at random.
    """
    if unknown := sorted(set(names) - set(SWEEPS)):
        raise ConfigError(f"expected sweeps out of {', '.join(SWEEPS)}, found {', '.join(unknown)}; check the names")
    if names and scenario == "server":
        raise ConfigError("expected no sweep in the scenario server: it searches rates of arrivals; leave it out")


def knee(throughputs: Mapping[int, float]) -> int | None:
    """Return the smallest batch with nearly the best throughput, images a second by batch; ``None``: the largest."""
    best = max(throughputs.values())
    found = min(batch for batch, each in throughputs.items() if each >= NEARLY * best)
    return found if found < max(throughputs) else None


def to_the_knee(rows: Sequence[Row], measured_at: Callable[[int], Sequence[Row]]) -> tuple[Row, ...]:
    """Return ``rows`` and those of the batches 1, 2, 4 ... until one is two steps beyond every row's knee, by batch.

    Batches take no turns: were one step enough, a machine disturbed throughout a batch would end the sweep too early.

    Args:
        rows: measured before.
        measured_at: measures the rows of a batch.
    """
    found, batch = [*rows], 1
    while batch <= _LARGEST_BATCH:
        if all(row.batch != batch for row in found):
            found += measured_at(batch)
        knees = _knees(found).values()
        if all(each is not None and 4 * each <= batch for each in knees):
            break
        batch *= 2
    return tuple(sorted(found, key=lambda row: row.batch))


def with_knees(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows, those at their knees marked."""
    knees = _knees(rows)
    return tuple(replace(row, knee=row.measured is not None and knees.get(row.name) == row.batch) for row in rows)


def threaded(contestants: Sequence[Contestant], usual: int, cores: int) -> list[Contestant]:
    """Return the contestants, each that computes on the CPU once more for each other count of threads.

    These come after the row's peers, which are to have their turn right after it.

    Args:
        contestants: who takes part.
        usual: CPU threads that the others have.
        cores: how many this process may use.
    """
    found, waiting = list[Contestant](), list[Contestant]()
    for each in contestants:
        if each.kind == "backend":
            found += waiting
            able = not each.on_gpu and each.reason is None
            waiting = [replace(each, threads=count) for count in thread_counts(cores) if able and count != usual]
        found.append(each)
    return found + waiting


def thread_counts(cores: int) -> list[int]:
    """Return 1, 2, 4 ... and last the number of cores."""
    return [*(1 << power for power in range((cores - 1).bit_length())), cores]


def _knees(rows: Sequence[Row]) -> dict[str, int | None]:
    """Return the knee of each row whose batch alone a sweep changes."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.measured and row.name == row.series:
            speeds = [each.queries * row.batch / each.wall_s for each in row.measured.rounds]
            found.setdefault(row.name, {})[row.batch] = median(speeds)
    return {name: knee(throughputs) for name, throughputs in found.items()}
