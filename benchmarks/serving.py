"""What `quillrt serve` bears: `python -m quillrt.benchmarks.serving MODEL.quill`.

Many clients on this machine send one image after the other for some seconds, each on a connection of its own, and hold
every answer against the label and against what the model says of that image here. Then the server gets SIGTERM while
all of them go on: what it accepted has to be answered, and it has to end well. Clients and server share the cores.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer
from PIL import Image

import quillrt.runtime as qr
from quillrt.benchmarks.environment import describe, hardware_line
from quillrt.benchmarks.http_client import Client, Lost, Refused
from quillrt.benchmarks.images import choose_images
from quillrt.benchmarks.script import run
from quillrt.benchmarks.statistics import percentiles
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import DataError, QuillError
from quillrt.runtime.files import write_text
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.pretrained import PREFIX, find

_TOLERANCE = 0.01  # of a probability: batches of another size may round otherwise
_END_SECONDS = 90.0  # a server that stops takes at most 60


@dataclass(frozen=True)
class Question:
    """An image file, its label, and the probability that the model gives that label."""

    image: bytes
    label: str
    probability: float


@dataclass
class Record:
    """What became of all requests.

    Attributes:
        latencies_ms: of each answer with status 200 before the stop.
        codes: answers by status, before and after the stop.
        wrong: answers that are another image's, or none's.
        lost: requests sent whose answer never came whole.
        after_stop: of the answers with status 200, those that came after the stop.
    """

    latencies_ms: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    after_stop: int = 0
    stopping: bool = False


def questions_of(model: str, images: ImageSet, count: int) -> list[Question]:
    """Return up to ``count`` images that the model reads rightly here, as PNG files.

    Raises:
        DataError: it reads none of them rightly.
    """
    taken = images.take(np.arange(min(count, len(images))))
    with qr.open(model) as recognizer:
        found = recognizer.predict(list(taken.images))
    pairs = zip(taken.images, taken.labels, found, strict=True)
    right = [
        Question(_png(image), p.label, p.probability) for image, k, p in pairs if p.label == images.classes[int(k)]
    ]
    if not right:
        raise DataError("expected images that the model reads rightly, found none; give its own --dataset")
    return right


async def load(port: int, questions: list[Question], clients: int, seconds: float, stop: Callable[[], None]) -> Record:
    """Return what became of the requests of ``clients`` that ask for ``seconds`` and on until a ``stop`` is through."""
    record = Record()
    asking = [
        asyncio.create_task(_ask(port, questions[number % len(questions) :] + questions, record))
        for number in (client * len(questions) // clients for client in range(clients))
    ]
    await asyncio.sleep(seconds)
    record.stopping = True
    stop()
    done, late = await asyncio.wait(asking, timeout=_END_SECONDS)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
    record.lost += len(late)
    return record


async def _ask(port: int, questions: Sequence[Question], record: Record) -> None:
    """Ask one question after the other until the server has stopped."""
    async with Client(port) as client:
        while True:
            for question in questions:
                started = time.perf_counter()
                try:
                    answer = await client.post("/predict", question.image, "image/png")
                except Refused:
                    if not record.stopping:
                        raise
                    return
                except Lost:
                    record.lost += 1
                    continue
                latency_ms = (time.perf_counter() - started) * 1000
                record.codes[answer.status] += 1
                if answer.status != 200:
                    await asyncio.sleep(float(answer.headers.get("retry-after", 0)))
                    continue
                (got,) = answer.json()["predictions"]
                is_right = (
                    got["label"] == question.label and abs(got["probability"] - question.probability) < _TOLERANCE
                )
                record.wrong += not is_right
                if record.stopping:
                    record.after_stop += 1
                else:
                    record.latencies_ms.append(latency_ms)


def measure(
    model: str, questions: list[Question], clients: int, seconds: float, options: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of a server of its own process.

    Raises:
        QuillError: it did not start, or ended by itself.
    """
    command = [sys.executable, "-m", "quillrt.cli", "serve", model, "--port", "0", "--json", "--quiet", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None  # noqa: S101 - it is a pipe
            line = server.stdout.readline()
            if not line:
                raise QuillError("expected a server, but it did not start; it said why above")
            started = json.loads(line)
            port = urlsplit(started["url"]).port or 0
            record = asyncio.run(load(port, questions, clients, seconds, lambda: server.send_signal(signal.SIGTERM)))
            rest, _ = server.communicate(timeout=_END_SECONDS)
        except Refused as error:
            raise QuillError("expected the server to go on until it is stopped, but it ended under the load") from error
        finally:
            server.kill()
    told = json.loads(rest or "{}")
    return {
        "file": started["file"],
        "backend": started["backend"],
        "options": list(options),
        "clients": clients,
        "seconds": seconds,
        "images": len(questions),
        "answers": len(record.latencies_ms),
        "per_second": len(record.latencies_ms) / seconds,
        "latency_ms": percentiles(record.latencies_ms),
        "codes": {str(code): count for code, count in sorted(record.codes.items())},
        "wrong": record.wrong,
        "lost": record.lost,
        "after_stop": record.after_stop,
        "server": {"exit_code": server.returncode, **told},
    }


def main(
    model: Annotated[str, typer.Argument(help="A .quill bundle, or models:NAME.")],
    options: Annotated[list[str] | None, typer.Argument(help="Options of serve, after --.")] = None,
    clients: Annotated[int, typer.Option("--clients", min=1)] = 200,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1)] = 60.0,
    images: Annotated[int, typer.Option("--images", min=1, help="How many different ones.")] = 1000,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Default: what the model was trained on.")] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", envvar="QUILLRT_DATA")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="JSON file for the figures and the machine.")] = None,
) -> None:
    """Print rate, latency, codes, and what went wrong; exit code 1 if anything did."""
    path = find(model.removeprefix(PREFIX), ".quill") if model.startswith(PREFIX) else Path(model)
    manifest = Bundle.open(path).manifest
    name, chosen = choose_images(manifest.training, manifest.model.preprocessing, dataset, data_root)
    environment = describe()
    figures = measure(model, questions_of(model, chosen, images), clients, seconds, options or ())
    if output is not None:
        write_text(output, json.dumps({"environment": environment, "images": name, **figures}, indent=2) + "\n")
    typer.echo(hardware_line(environment))
    typer.echo(
        f"{clients} clients, {seconds:g} s, {figures['images']} images of {name}; {figures['file']} on "
        f"{figures['backend']}: {figures['answers']:,} answers, {figures['per_second']:,.0f} a second"
    )
    typer.echo("  ".join(f"{p} {value:.1f} ms" for p, value in figures["latency_ms"].items()))
    server = figures["server"]
    typer.echo(
        f"codes {figures['codes']}, wrong {figures['wrong']}, lost {figures['lost']}; SIGTERM under this load: "
        f"{figures['after_stop']} answered after it, {server.get('answered')} of {server.get('accepted')} accepted in "
        f"all, exit code {server['exit_code']}"
    )
    if not is_well(figures):
        raise QuillError("expected every request answered rightly, found others; the figures above tell which")


def is_well(figures: dict[str, Any]) -> bool:
    """Tell whether nothing was lost, wrong or failed, and the server's own count is the clients'."""
    server = figures["server"]
    return (
        not figures["wrong"]
        and not figures["lost"]
        and not any(code.startswith("5") for code in figures["codes"])
        and server["exit_code"] == 0
        and server["accepted"] == server["answered"] == sum(figures["codes"].values())
    )


def _png(image: Any) -> bytes:
    content = BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


if __name__ == "__main__":
    run(main)
