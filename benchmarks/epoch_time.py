"""How long an epoch takes, against PyTorch's MNIST example: `python -m quillrt.benchmarks.epoch_time`.

The plain loop makes a PIL image of each digit, varies it by torchvision's transforms, turns it into a tensor and
collates a batch, in FP32; ours is `quillrt train`. Both take the same images, batch, threads, optimizer and kinds of
variation, in turn in one process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from quillrt.benchmarks.script import run
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits, load_dataset
from quillrt.train.models import build_model
from quillrt.train.policies import Augmentation, policy
from quillrt.train.training import train

_BATCH = 64  # the example's
_SIGMA = 5.0  # pixels over which torchvision smooths an elastic bend, its default


@dataclass(frozen=True)
class Contest:
    """A network, how its images are varied in both loops, in words too, and whether ours computes in bfloat16."""

    model: str
    amounts: Augmentation
    kind: str
    amp: bool


CONTESTS = (
    Contest("cnn", policy("none"), "images as they are", amp=False),
    Contest("cnn", policy("none"), "images as they are", amp=True),
    Contest("quillnet", policy("light"), "policy light", amp=True),
    Contest("quillnet", policy("strong", ["stroke=0"]), "policy strong without strokes", amp=True),
)


def plain_epoch(splits: Splits, contest: Contest) -> float:
    """Return the seconds of an epoch of the plain loop; source: pytorch/examples, mnist/main.py."""
    import torch
    from PIL import Image
    from torch.nn import functional
    from torch.utils.data import DataLoader
    from torchvision import transforms

    recipe, a = splits.preprocessing, contest.amounts
    varied: list[Any] = []
    if a.rotation:
        shear = float(np.degrees(np.arctan(a.shear)))
        varied += [transforms.RandomAffine(a.rotation, (a.translation,) * 2, (1 - a.scale, 1 + a.scale), shear)]
    if a.elastic:
        # Uniform numbers (variance 1/3) under a Gaussian: the deviation that is left is 1 / sqrt(3 * 4 * pi) / sigma.
        alpha = a.elastic * recipe.width * np.sqrt(12 * np.pi) * _SIGMA
        varied += [transforms.ElasticTransform(float(alpha), _SIGMA)]
    transform = transforms.Compose(
        [*varied, transforms.ToTensor(), transforms.Normalize((recipe.mean,), (recipe.std,))]
    )

    class Digits(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(splits.train)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return transform(Image.fromarray(splits.train.images[index])), int(splits.train.labels[index])

    torch.manual_seed(0)
    module = build_model(contest.model, len(splits.classes)).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.01, 0.9)
    started = time.perf_counter()
    for images, labels in DataLoader(Digits(), _BATCH, shuffle=True):
        optimizer.zero_grad()
        functional.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - started


def our_epoch(splits: Splits, contest: Contest) -> float:
    """Return the seconds of an epoch of ours, without its validation, which the plain loop does not have."""
    config = TrainConfig(
        epochs=1,
        batch_size=_BATCH,
        optimizer="sgd",
        lr=0.01,
        augmentation=contest.amounts,
        amp=contest.amp,
        device="cpu",
    )
    few = replace(splits, validation=splits.validation.take(np.arange(1)))
    (epoch,) = train(build_model(contest.model, len(splits.classes)), few, config)
    return epoch.seconds


def main(
    data_root: Annotated[Path | None, typer.Option("--data-root", envvar="QUILLRT_DATA")] = None,
    images: Annotated[int, typer.Option("--images", min=64)] = 10_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1)] = 3,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 2,
) -> None:
    """Print seconds per epoch of either loop, the medians of the rounds, and their ratio."""
    import torch

    from quillrt.runtime.device import describe_device

    torch.set_num_threads(threads)
    splits = load_dataset("mnist", data_root)
    images = min(images, len(splits.train))
    splits = replace(splits, train=splits.train.take(np.arange(images)))
    typer.echo(f"{describe_device().text()}; torch {torch.__version__}, {threads} threads")
    typer.echo(f"{images:,} images, batch {_BATCH}, medians of {rounds} rounds, smallest and largest ratio")
    for contest in CONTESTS:
        pairs = [(plain_epoch(splits, contest), our_epoch(splits, contest)) for _ in range(rounds)]
        plain, ours = (median(side) for side in zip(*pairs, strict=True))
        name = f"{contest.model}, {contest.kind}, ours in {'bfloat16' if contest.amp else 'FP32'}"
        typer.echo(f"{name}: plain {plain:.2f} s, ours {ours:.2f} s, ratio {_ratios(pairs)}")


def _ratios(pairs: Iterable[tuple[float, float]]) -> str:
    ratios = sorted(plain / ours for plain, ours in pairs)
    return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    run(main)
