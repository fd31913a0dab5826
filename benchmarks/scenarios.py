"""How queries come, and what counts: the scenarios of MLPerf's LoadGen.

Source: V. J. Reddi et al., "MLPerf Inference Benchmark" (ISCA 2020), section IV, and the rules of MLPerf Inference,
"Scenarios".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from quillrt.runtime.errors import ConfigError

from .arrivals import PERCENTILE
from .measured import Metric, Round, Served
from .statistics import queries_needed


@dataclass(frozen=True)
class Scenario:
    """One way that queries come.

    Attributes:
        metric: the figure that it is judged by.
        batches: images in a query where none are asked for.
        percentile: that a row must have queries enough for.
        says: in a few words.
    """

    metric: str
    batches: tuple[int, ...]
    percentile: float
    says: str

    @property
    def least_queries(self) -> int:
        """Queries of a row."""
        return queries_needed(self.percentile)


SCENARIOS = {
    "single-stream": Scenario(
        "p90_ms", (1, 64), 0.90, "each query is sent when the last one is answered; 90th percentile of the latency"
    ),
    "multi-stream": Scenario(
        "p99_ms", (8,), 0.99, "queries of several images, each sent when the last one is answered; 99th percentile"
    ),
    "offline": Scenario(
        "images_per_second", (64,), 0.90, "all images at once, in batches as the backend takes them; images per second"
    ),
    "server": Scenario(
        "rate_qps",
        (1,),
        PERCENTILE,
        "queries arrive at random (Poisson); highest rate whose 99th percentile holds the bound",
    ),
}


def scenario_of(name: str) -> Scenario:
    """Return the scenario called ``name``.

    Raises:
        ConfigError: none has this name.
    """
    if name not in SCENARIOS:
        raise ConfigError(f"expected a scenario out of {', '.join(SCENARIOS)}, found {name!r}")
    return SCENARIOS[name]


def metric_of(
    scenario: str,
    rounds: Sequence[Round],
    percentiles_ms: Mapping[str, float],
    batch: int,
    served: Sequence[Served],
) -> Metric:
    """Return the scenario's figure of one row."""
    name = SCENARIOS[scenario].metric
    if name == "rate_qps":
        rates = tuple(each.rate_qps for each in served)
        return Metric(name, median(rates), higher_is_better=True, rounds=rates)
    if name == "images_per_second":
        speeds = tuple(each.queries * batch / each.wall_s for each in rounds)
        return Metric(name, median(speeds), higher_is_better=True, rounds=speeds)
    value = percentiles_ms.get(name.removesuffix("_ms"))
    return Metric(name, value, higher_is_better=False, rounds=tuple(each.median_ms for each in rounds))
