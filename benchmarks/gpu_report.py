"""The GPU check's outcome, and its report for people and programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.files import write_text

from .comparing import REFERENCES
from .gpu_steps import COPY_TIMES, GRAPH_TIMES
from .measured import Agreement
from .plot import plot_latency
from .report import layers_markdown, markdown_table, to_markdown
from .results import Result

REFERENCE = "eager fp32"
_TITLE = "GPU check"


@dataclass(frozen=True)
class Step:
    """One step: what the report tells of it, or the reason why it could not be done."""

    name: str
    seconds: float
    facts: Any = None
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a row's logits are those of PyTorch eager on the CPU, as far as its precision allows."""

    name: str
    batch: int
    agreement: Agreement
    tolerance: float

    @property
    def passed(self) -> bool:
        """The relative error is one that the precision explains."""
        return self.agreement.relative_error <= self.tolerance


@dataclass(frozen=True)
class Outcome:
    """What the check found.

    Attributes:
        result: what was measured.
        steps: what was done before that.
        parity: a verdict on every row that ran, but for the reference.
        lacking: what should have been done, and was not.
    """

    result: Result
    steps: tuple[Step, ...]
    parity: tuple[Verdict, ...]
    lacking: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Something ran beside the reference, whatever ran agrees with it, and nothing is lacking."""
        return bool(self.parity) and all(verdict.passed for verdict in self.parity) and not self.lacking

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        facts = {
            "passed": self.passed,
            "lacking": self.lacking,
            "parity": [{**asdict(v), "passed": v.passed} for v in self.parity],
            "steps": [asdict(s) for s in self.steps],
        }
        return {**self.result.to_json(), "check": facts}

    def to_markdown(self) -> str:
        """Return the report as a page of Markdown."""
        return "\n".join(
            (
                to_markdown(self.result, _TITLE),
                f"- {' and '.join(REFERENCES)} ran first; the others took turns within their own backend.\n",
                f"## Parity with {REFERENCE}\n",
                markdown_table(_PARITY, [_parity_cells(verdict) for verdict in self.parity]),
                *(f"- lacking, so the check fails: {name}\n" for name in self.lacking),
                "## What engines compute in, by their own inspector or profiler\n",
                markdown_table(("backend", "batch", "layers by datatype"), _datatypes(self.result)),
                "## Copies between page-locked memory and the GPU, medians\n",
                markdown_table(_COPIES, _figures(self.steps, "copies by ", ("bytes", "n", *COPY_TIMES))),
                "## Copies and small kernels, given to a stream singly and as one CUDA graph, medians\n",
                markdown_table(_GRAPHS, _figures(self.steps, "CUDA graph by ", ("kernels", "n", *GRAPH_TIMES))),
                "## Steps\n",
                markdown_table(
                    ("step", "s", "outcome"), [(s.name, f"{s.seconds:.1f}", s.reason or "done") for s in self.steps]
                ),
                layers_markdown(self.result),
            )
        )


_PARITY = ("backend", "batch", "images", "same label", "max |Δ|", "relative error", "tolerance", "verdict")
_COPIES = ("driver", "bytes", "n", "H2D ms", "D2H ms", "round trip, host ms", "H2D GB/s", "D2H GB/s")
_GRAPHS = ("driver", "kernels", "n", "singly, host ms", "graph, host ms")


def write_outcome(outcome: Outcome, folder: Path, *, plot: bool = True) -> None:
    """Write latency.png, where a ``plot`` is wanted, result.json and result.md into ``folder``.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        if plot:
            plot_latency(outcome.result, folder / "latency.png", _TITLE)
    except BackendUnavailable as error:
        outcome = replace(outcome, steps=(*outcome.steps, Step("plot", 0.0, reason=str(error))))
    write_text(folder / "result.json", json.dumps(outcome.to_json(), allow_nan=False) + "\n")
    write_text(folder / "result.md", outcome.to_markdown())


def _parity_cells(verdict: Verdict) -> tuple[str, ...]:
    found = verdict.agreement
    return (
        verdict.name,
        str(verdict.batch),
        f"{found.images:,}",
        f"{found.same_label:.2%}",
        f"{found.max_difference:.1e}",
        f"{found.relative_error:.1e}",
        f"{verdict.tolerance:g}",
        "ok" if verdict.passed else "WRONG",
    )


def _datatypes(result: Result) -> list[tuple[str, ...]]:
    """Return by row how many layers compute in what; empty cells are layers that do not tell."""
    counted = [(row, Counter(layer.datatype for layer in row.measured.layers)) for row in result.rows if row.measured]
    return [
        (row.name, str(row.batch), ", ".join(f"{kind or 'untold'} {count}" for kind, count in kinds.items()))
        for row, kinds in counted
        if kinds
    ]


def _figures(steps: Sequence[Step], prefix: str, keys: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a line for each set of figures among the facts of the steps whose name begins with ``prefix``."""
    lines = []
    for step in steps:
        if step.name.startswith(prefix) and step.facts:
            for facts in step.facts if isinstance(step.facts, list) else [step.facts]:
                figures = (f"{facts[key]:,}" if isinstance(facts[key], int) else f"{facts[key]:.4g}" for key in keys)
                lines.append((step.name.removeprefix(prefix), *figures))
    return lines
