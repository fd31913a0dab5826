"""Which rows a benchmark has, and who takes part for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.precision import Precision

from .comparing import REFERENCES
from .contestants import Contestant, bundle_contestants, torch_contestants
from .peers import with_peers
from .running import Settings
from .variants import by_batch, graphed, only, takes, tuned

_MOST_IMAGES = 2000


@dataclass(frozen=True)
class Rows:
    """Which rows a benchmark has.

    Attributes:
        backends: only these; all if none is named.
        options: options of their libraries, of the backends that take them.
        variants: options of which each makes one more row of the backends that take it; one has to.
        offered: the same, but none has to.
        cuda_graphs: one more row, with CUDA graphs, of each backend that makes them.
        images: at most so many are compared.
        peers: others' ways to measure, out of ``peers.PEERS``, beside the rows of their backends.
        on_gpu: rows on GPUs, and of the others those alone that they are compared with.
        roofline: measure the machine's peaks and place each row under them.
        sweeps: out of ``sweeps.SWEEPS``, each of which adds rows.
        preset: which preset chose all this, if one did.
    """

    backends: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    variants: Sequence[Mapping[str, str]] = ()
    offered: Sequence[Mapping[str, str]] = ()
    cuda_graphs: bool = False
    images: int = _MOST_IMAGES
    peers: Sequence[str] = ()
    on_gpu: bool = False
    roofline: bool = False
    sweeps: Sequence[str] = ()
    preset: str | None = None


def entrants(bundle: Bundle, checkpoint: Path | None, rows: Rows, settings: Settings) -> list[Contestant]:
    """Return who takes part.

    Raises:
        ConfigError: no backend or peer has such a name, or takes such an option.
        CheckpointError: there is no such checkpoint.
    """
    spec = bundle.manifest.model
    held = {Precision.FP32, *(entry.precision for entry in bundle.entries if entry.precision)}
    everyone = [*torch_contestants(spec, checkpoint, held), *bundle_contestants(bundle, rows.backends, settings.device)]
    chosen = only(everyone, rows.backends)
    offered = [variant for variant in rows.offered if any(takes(each.backend, variant) for each in chosen)]
    found = tuned(chosen, rows.options, [*offered, *rows.variants])
    if rows.cuda_graphs:
        found = graphed(found)
    if rows.on_gpu:
        found = [row for row in found if row.on_gpu or row.name in REFERENCES]
    return with_peers(rows.peers, by_batch(found, settings.batches))
