"""What makes a result doubtful: its machine's state, and rows whose rounds or warm-ups never were steady."""

from __future__ import annotations

from collections.abc import Callable

from .measured import Measured
from .results import Result, Row

_UNSTEADY = 0.25  # of a row's rounds: a short one may fall into a spell that another program made


def doubts(result: Result) -> list[str]:
    """Return a line for each doubt, the machine's first."""
    baselines = ", ".join(dict.fromkeys(result.baseline.values())) or "another row"
    found = [
        (f"too noisy to be judged against {baselines}", _of(result, lambda row, _: row.verdict == "too noisy")),
        (
            "not judged, for the rounds are too few",
            _of(result, lambda row, _: row.verdict == "not judged" and row.kind == "backend"),
        ),
        ("latencies were not steady when a round began, often", _of(result, lambda _, measured: _unsteady(measured))),
    ]
    git = result.environment["git"]
    lines = ["the checkout had changes that its commit does not hold"] if git is not None and git["changed"] else []
    return [*result.warnings, *(f"{what}: {who}" for what, who in found if who), *lines]


def _of(result: Result, which: Callable[[Row, Measured], bool]) -> str:
    """Return the names of the rows meant, by batch size; nothing of none."""
    ran = [(row, which(row, row.measured)) for row in result.rows if row.measured]
    if all(meant for _, meant in ran):
        return "every row" if ran else ""
    names: dict[int, list[str]] = {}
    for row, meant in ran:
        if meant:
            names.setdefault(row.batch, []).append(row.name)
    return "; ".join(f"batch {batch}: {', '.join(some)}" for batch, some in names.items())


def _unsteady(measured: Measured) -> bool:
    warmups = [each.warmup for each in measured.rounds if each.warmup is not None]
    return sum(not each.stable for each in warmups) > _UNSTEADY * len(warmups)
