"""What trained weights and synthetic images bring where labels are few: `python -m quillrt.benchmarks.transfer`.

Every way to learn takes the same images, number of steps, augmentation and network; each line of the output is one
training, judged on the test part. Lines that are there already are not trained again, so an interrupted run goes on.
With ``--rates`` it trains every way at several learning rates and judges them on the validation part instead.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer

from quillrt.benchmarks.environment import describe, hardware_line
from quillrt.benchmarks.script import run
from quillrt.benchmarks.torch_sessions import EagerSession
from quillrt.runtime.errors import DataError
from quillrt.runtime.files import write_text
from quillrt.runtime.imageset import ImageSet
from quillrt.train.checkpoint import Checkpoint, load_checkpoint
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits, load_dataset, public_name
from quillrt.train.evaluation import evaluate
from quillrt.train.finetuning import finetune
from quillrt.train.freezing import Freezing
from quillrt.train.gan import train_gan
from quillrt.train.gan_config import GanConfig
from quillrt.train.models import layers
from quillrt.train.policies import policy
from quillrt.train.splitting import per_class
from quillrt.train.synthetic import joined
from quillrt.train.training import train_new

WAYS = ("scratch", "all layers", "head only", "gradual")
# The best of ``_CANDIDATES`` on the validation part at 20 images per class, seed 100.
_RATES = {"scratch": 8e-3, "all layers": 4e-3, "head only": 1e-1, "gradual": 8e-3}
_CANDIDATES = {way: (1e-2, 3e-2, 1e-1) if way == "head only" else (2e-3, 4e-3, 8e-3) for way in WAYS}
_SIZES = [5, 20, 100, 500, 0]  # images of each class, 0 for all
_SEEDS = [0, 1, 2]
_BATCH = 64
_FEWEST_EPOCHS = 3
_MOST_SYNTHETIC = 1_000  # images of each class


@dataclass(frozen=True)
class Trained:
    """One training and what it came to.

    Attributes:
        way: one of ``WAYS``.
        per_class: real images of each class; 0 for all.
        synthetic: generated images of each class beside them; 0 for none.
        seed: of the choice of images, the weights and the training.
        accuracy: share (0..1) of right answers on the test part.
        n: images there.
        seconds: of the training, without that of the GAN.
        settings: what the trainings of one table share.
        machine: where the seconds were measured, with its versions.
    """

    way: str
    per_class: int
    synthetic: int
    seed: int
    accuracy: float
    n: int
    seconds: float
    settings: dict[str, Any]
    machine: str


@dataclass(frozen=True)
class Plan:
    """What is the same in all trainings: the weights to start from, the images, and how many steps."""

    start: Checkpoint
    dataset: str
    splits: Splits
    steps: int
    gan_steps: int

    def trained(self, way: str, images: ImageSet, seed: int, lr: float) -> tuple[Checkpoint, float]:
        """Return the network, and the seconds of its training."""
        batches = math.ceil(len(images) / _BATCH)
        epochs = max(_FEWEST_EPOCHS, math.ceil(self.steps / batches))
        config = TrainConfig(
            epochs=epochs,
            batch_size=_BATCH,
            lr=lr,
            schedule="one-cycle",
            weight_decay=0.02,
            label_smoothing=0.05,
            augmentation=policy("strong"),
            amp=True,
            seed=seed,
        )
        # The validation part chooses nothing: one image of it, for an epoch of 130 images is over at once.
        few = replace(self.splits, train=images, validation=self.splits.validation.take(np.arange(1)))
        started = time.perf_counter()
        if way == "scratch":
            checkpoint = train_new(self.start.model, few, config)
        else:
            depth = len(layers(self.start.module()))
            freezing = Freezing(
                head_only=way == "head only", unfreeze_every=max(1, epochs // depth) if way == "gradual" else 0
            )
            checkpoint = finetune(self.start, few, config, freezing)
        return checkpoint, time.perf_counter() - started

    def images(self, count: int, seed: int) -> ImageSet:
        """Return ``count`` training images of each class; all for 0."""
        return per_class(self.splits.train, count, seed) if count else self.splits.train

    def generated(self, real: ImageSet, seed: int) -> ImageSet:
        """Return as many images of each class as ``real`` has of its rarest, by a GAN that saw ``real`` alone."""
        count = min(_MOST_SYNTHETIC, int(np.bincount(real.labels).min()))
        return train_gan(real, GanConfig(steps=self.gan_steps, seed=seed)).draw(count, seed)


def results(plan: Plan, sizes: Iterable[int], seeds: Iterable[int], done: Iterable[Trained]) -> Iterator[Trained]:
    """Yield what is not ``done`` yet.

    Raises:
        DataError: what is done has other settings.
    """
    import torch

    settings = {
        "start": plan.start.training.get("dataset"),
        "model": plan.start.model,
        "dataset": plan.dataset,
        "steps": plan.steps,
        "gan_steps": plan.gan_steps,
    }
    machine = f"{hardware_line(describe())}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    known = set()
    for each in done:
        if each.settings != settings:
            raise DataError(f"expected trainings of {settings}, found {each.settings}; give another --output")
        known.add((each.way, each.per_class, bool(each.synthetic), each.seed))
    for size, seed, helped in product(sizes, seeds, (False, True)):
        wanted = [way for way in WAYS if (way, size, helped, seed) not in known]
        if not wanted:
            continue
        images, count = plan.images(size, seed), 0
        if helped:
            more = plan.generated(images, seed)
            images, count = joined(images, more), len(more) // len(more.classes)
        for way in wanted:
            checkpoint, seconds = plan.trained(way, images, seed, _RATES[way])
            accuracy, n = _accuracy(checkpoint, plan.splits.test)
            yield Trained(way, size, count, seed, accuracy, n, seconds, settings, machine)


def searched(plan: Plan, size: int, seed: int) -> Iterator[tuple[str, float, float]]:
    """Yield each way, a learning rate, and the accuracy (0..1) that it gives on the validation part."""
    images = plan.images(size, seed)
    for way, rates in _CANDIDATES.items():
        for lr in rates:
            yield way, lr, _accuracy(plan.trained(way, images, seed, lr)[0], plan.splits.validation)[0]


def _accuracy(checkpoint: Checkpoint, images: ImageSet) -> tuple[float, int]:
    with EagerSession(checkpoint) as session:
        result = evaluate(session, images)
    return result.accuracy, result.n


def table(rows: Iterable[Trained]) -> str:
    """Return a Markdown table: images per class down, ways across; means over the seeds and their extremes."""
    cells: dict[tuple[int, bool], dict[str, list[float]]] = {}
    for row in rows:
        cells.setdefault((row.per_class, bool(row.synthetic)), {}).setdefault(row.way, []).append(100 * row.accuracy)
    lines = [f"| real images per class | {' | '.join(WAYS)} |", f"|---|{'---|' * len(WAYS)}"]
    for (size, helped), ways in sorted(cells.items(), key=lambda cell: (cell[0][0] or math.inf, cell[0][1])):
        name = f"{size or 'all'}{' and synthetic' if helped else ''}"
        lines.append(f"| {name} | {' | '.join(_cell(ways.get(way, [])) for way in WAYS)} |")
    return "\n".join(lines)


def _cell(percent: list[float]) -> str:
    return f"{mean(percent):.1f} ({min(percent):.1f} to {max(percent):.1f}; {len(percent)})" if percent else ""


def read_rows(path: Path) -> list[Trained]:
    """Return the trainings that ``path`` holds, a JSON object a line; none where it is not there.

    Raises:
        DataError: a line is something else.
    """
    if not path.exists():
        return []
    try:
        return [Trained(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise DataError(f"expected a line of JSON for each training in {path}, found {error}; remove it") from error


def main(
    start: Annotated[Path, typer.Option("--start", help="Checkpoint to begin from.")],
    output: Annotated[Path, typer.Option("--output", help="JSON lines to write, or to go on with.")],
    dataset: Annotated[str, typer.Option("--dataset")] = "emnist-letters",
    data_root: Annotated[Path | None, typer.Option("--data-root", envvar="QUILLRT_DATA")] = None,
    sizes: Annotated[
        list[int], typer.Option("--per-class", min=0, help="Images of each class, 0 for all; repeat.")
    ] = _SIZES,
    seeds: Annotated[list[int], typer.Option("--seed", min=0, help="Repeat for several.")] = _SEEDS,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of a training, three epochs at least.")] = 600,
    gan_steps: Annotated[int, typer.Option("--gan-steps", min=1)] = GanConfig.steps,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    rates: Annotated[bool, typer.Option("--rates", help="Compare learning rates on the validation part only.")] = False,
) -> None:
    """Train every way with few and many images, with and without synthetic ones, and print the table."""
    import torch

    torch.set_num_threads(threads)
    checkpoint = load_checkpoint(start)
    splits = load_dataset(dataset, data_root, checkpoint.spec.preprocessing)
    plan = Plan(checkpoint, public_name(dataset), splits, steps, gan_steps)
    if rates:
        for size, seed in product(sizes, seeds):
            for way, lr, accuracy in searched(plan, size, seed):
                typer.echo(f"{way}, {size or 'all'} per class, seed {seed}, rate {lr:g}: {accuracy:.2%}")
        return
    rows = read_rows(output)
    for row in results(plan, sizes, seeds, rows):
        rows.append(row)
        write_text(output, "".join(f"{json.dumps(asdict(each))}\n" for each in rows))
        typer.echo(_said(row), err=True)
    typer.echo(table(rows))


def _said(row: Trained) -> str:
    real = f"{row.per_class or 'all'} per class"
    return f"{row.way}, {real}, {row.synthetic} synthetic, seed {row.seed}: {row.accuracy:.2%}"


if __name__ == "__main__":
    run(main)
