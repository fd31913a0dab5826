"""What a row costs besides time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a row costs besides time; ``None`` has its reason in ``absent``.

    Attributes:
        load_ms: median over the builds.
        first_query_ms: median over the builds.
        build_s: time its engine took to build, where that is recorded.
        peak_rss_bytes: largest resident memory of its process, images left out.
        device_memory_bytes: of a GPU in its process.
        artifact_bytes: size of the file it loads.
        joules_per_image: energy of the whole processor, board or GPU while it ran, idle draw included.
        images_per_joule: the inverse.
        energy_source: who told.
        absent: by field, why it is ``None``.
    """

    load_ms: float | None
    first_query_ms: float | None
    build_s: float | None
    peak_rss_bytes: int | None
    device_memory_bytes: int | None
    artifact_bytes: int | None
    joules_per_image: float | None
    images_per_joule: float | None
    energy_source: str | None
    absent: Mapping[str, str]
