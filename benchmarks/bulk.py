"""How fast `run --output` is, against its parts: `python -m quillrt.benchmarks.bulk`.

Reading alone (the same processes, whose images nobody recognizes), inference alone (the same session, at the batch size
that is the fastest for it, on images in memory) and the whole run into a file of JSON lines, in turn. Were there no
cost in putting them together, the whole would be as fast as its slower part, as long as there is a core for each.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from quillrt.benchmarks.environment import describe, hardware_line
from quillrt.benchmarks.script import run
from quillrt.runtime.bulk import batch_logits, recognize_files, shared_out
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.confidence import Confidence
from quillrt.runtime.decoding import Decoders
from quillrt.runtime.device import cores
from quillrt.runtime.images import find_images
from quillrt.runtime.pretrained import find
from quillrt.runtime.row_files import open_rows
from quillrt.runtime.rows import Choices
from quillrt.runtime.select import open_fitting
from quillrt.runtime.session import Session, SessionOptions
from quillrt.train.datasets import load_dataset

_BATCHES = (16, 32, 64, 128, 256, 512, 1024)
_TRIED = 2048  # images on which the batch sizes are compared


@dataclass(frozen=True)
class Rate:
    """How fast one of them was.

    Attributes:
        images_per_second: by the clock on the wall.
        cpu_us: processor time per image, of all processes: what it takes where others use the machine, too.
    """

    images_per_second: float
    cpu_us: float


@dataclass(frozen=True)
class Round:
    """One after the other.

    Attributes:
        reading: reading and fitting alone, the start of the processes included.
        inference: the session alone.
        whole: both, and writing the rows until the disk has them; the start of the processes included.
    """

    reading: Rate
    inference: Rate
    whole: Rate

    @property
    def share(self) -> float:
        """What the whole reaches of its slower part."""
        return self.whole.images_per_second / min(self.reading.images_per_second, self.inference.images_per_second)


class Clock:
    """Started when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._processor_s()

    def rate(self, images: int) -> Rate:
        """Return how fast ``images`` were done since the start; processes count that have ended."""
        return Rate(images / (time.perf_counter() - self._wall), (self._processor_s() - self._cpu) / images * 1e6)

    @staticmethod
    def _processor_s() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


def write_pngs(folder: Path, images: NDArray[np.uint8], count: int) -> None:
    """Write ``count`` files, a thousand to a folder, of images uint8 (N, H, W), which begin again at their end."""
    for number in range(count):
        file = folder / f"{number // 1000:03}" / f"{number:06}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(images[number % len(images)]).save(file)


def best_batch(session: Session, fitted: NDArray[np.uint8]) -> int:
    """Return the batch size at which ``session`` is the fastest, each tried three times, in turn."""
    some = fitted[:_TRIED]
    fastest = dict.fromkeys(_BATCHES, 0.0)
    for _ in range(3):
        for size in _BATCHES:
            fastest[size] = max(fastest[size], _infer(session, some, size).images_per_second)
    return max(fastest, key=fastest.__getitem__)


def measure(
    session: Session, confidence: Confidence, folder: Path, workers: int, batch_size: int, rounds: int
) -> tuple[int, list[Round]]:
    """Return the best batch size of inference alone, and the rounds, on the files below ``folder``."""
    files = list(map(str, find_images([folder])))
    _, fitted = _read(session, files, workers, batch_size)
    best, found = best_batch(session, fitted), []
    for _ in range(rounds):
        clock = Clock()
        with open_rows(folder / "rows.jsonl", {}, overwrite=True) as rows:
            left = rows.skip_done(iter(files))
            recognize_files(session, confidence, left, Choices(), rows.append, workers, batch_size)
            rows.finish()
        whole = clock.rate(len(files))
        reading, _ = _read(session, files, workers, batch_size)
        found.append(Round(reading, _infer(session, fitted, best), whole))
    return best, found


def _read(session: Session, files: list[str], workers: int, batch_size: int) -> tuple[Rate, NDArray[np.uint8]]:
    """Return how fast it was, and the images fitted (N, height, width)."""
    stream, clock = iter(files), Clock()
    batches: Iterator[list[str]] = iter(lambda: list(islice(stream, batch_size)), [])
    with Decoders(workers, session.spec.preprocessing) as decoders:
        fitted = [decoded.fitted for decoded in decoders.in_order(batches)]
    return clock.rate(len(files)), np.concatenate(fitted)


def _infer(session: Session, fitted: NDArray[np.uint8], batch_size: int) -> Rate:
    clock = Clock()
    for first in range(0, len(fitted), batch_size):
        batch_logits(session, fitted[first : first + batch_size])
    return clock.rate(len(fitted))


def table(rounds: list[Round]) -> str:
    """Return medians over the rounds, with the smallest and the largest, as Markdown."""
    lines = ["| | images a second | smallest | largest | µs of processor time an image |", "|---|---|---|---|---|"]
    for name in ("reading", "inference", "whole"):
        rates = [getattr(each, name) for each in rounds]
        speeds, cpu_us = [rate.images_per_second for rate in rates], median(rate.cpu_us for rate in rates)
        lines.append(f"| {name} | {median(speeds):,.0f} | {min(speeds):,.0f} | {max(speeds):,.0f} | {cpu_us:.0f} |")
    shares = [each.share for each in rounds]
    lines.append(f"| whole over its slower part | {median(shares):.2f} | {min(shares):.2f} | {max(shares):.2f} | |")
    return "\n".join(lines)


def main(
    model: Annotated[Path | None, typer.Option("--model", help="A bundle; models:digits by default.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="What the PNG files are made of.")] = "mnist",
    data_root: Annotated[Path | None, typer.Option("--data-root", envvar="QUILLRT_DATA")] = None,
    images: Annotated[int, typer.Option("--images", min=64)] = 20_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1)] = 5,
    workers: Annotated[int | None, typer.Option("--workers", min=1)] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1)] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 64,
) -> None:
    """Print the rates of reading alone, inference alone and the whole, then all of it as JSON."""
    workers, threads = shared_out(workers, threads, cores())
    bundle = Bundle.open(model or find("digits", ".quill"))
    session, entry, backend = open_fitting(bundle, options=SessionOptions(threads, batch_sizes=(batch_size,)))
    with session, tempfile.TemporaryDirectory() as folder:
        write_pngs(Path(folder), load_dataset(dataset, data_root).train.images, images)
        confidence = bundle.manifest.confidence
        best, found = measure(session, confidence, Path(folder), workers, batch_size, rounds)
    settings = {
        "file": entry.path,
        "backend": backend,
        "dataset": dataset,
        "images": images,
        "workers": workers,
        "threads": threads,
        "batch_size": batch_size,
        "best_batch_of_inference": best,
    }
    environment = describe()
    typer.echo(f"{hardware_line(environment)}; load average {environment['start']['load_average']}")
    typer.echo(f"{', '.join(f'{name} {value}' for name, value in settings.items())}; {rounds} rounds\n")
    typer.echo(table(found))
    result: Mapping[str, Any] = {"settings": settings, "environment": environment, "rounds": list(map(asdict, found))}
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    run(main)
