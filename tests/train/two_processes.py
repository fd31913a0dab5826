"""What ``test_two_processes.py`` runs in two processes: each training beside the same one in a single process.

    python -m torch.distributed.run --standalone --nproc-per-node 2 two_processes.py FOLDER

Process r writes what it found to FOLDER/r.json.
"""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from quillrt.runtime.errors import ConfigError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.preprocessing import Preprocessing, normalize
from quillrt.train.config import TrainConfig
from quillrt.train.datasets import Splits
from quillrt.train.distributed import World, joined, synchronized
from quillrt.train.freezing import Freezing
from quillrt.train.models import build_model
from quillrt.train.seeding import seeded
from quillrt.train.training import Surroundings, train

# Shares of 13 and 12 images, at last of 2 and 1; of the validation part, 16 and 15.
PLAIN = TrainConfig(epochs=2, batch_size=25, lr=0.01, optimizer="sgd", momentum=0.5, device="cpu")
TRAININGS = {
    "plain": (PLAIN, Freezing()),
    "weighted": (replace(PLAIN, class_weights="balanced", clip_norm=0.5, ema=0.9, patience=2), Freezing()),
    "unfreezing": (PLAIN, Freezing(unfreeze_every=1)),
}


def noise() -> Splits:
    """Images of noise: on the even ground of digits whole areas sit at a ReLU's edge, and rounding tips them over."""
    random = np.random.default_rng(0)
    recipe = Preprocessing(mean=0.5, std=0.3)

    def part(count: int) -> ImageSet:
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        return ImageSet(images, random.integers(0, 10, count), tuple("0123456789"), fitted=recipe)

    return Splits(part(128), part(31), part(8), recipe)


def quillnet() -> nn.Module:
    """Without dropout, which draws for each process."""
    with seeded(1):
        module = build_model("quillnet", 10)
    module.dropout.p = 0.0
    return module


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    """Return how far apart two networks are: the largest distance of a parameter or a statistic."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.double() - b.double()).norm().item() for a, b in pairs if a.is_floating_point())


def judged(module: nn.Module, splits: Splits) -> list[float]:
    """Return loss and accuracy of a network on the validation part, all of it at once."""
    part, recipe = splits.validation, splits.preprocessing
    labels = torch.from_numpy(part.labels)
    with torch.no_grad():
        logits = module(torch.from_numpy(normalize(part.images, recipe)))
    return [functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()]


def training(name: str, splits: Splits, world: World) -> dict:
    config, freezing = TRAININGS[name]
    alone, together = quillnet(), quillnet()
    told = []
    expected = train(alone, splits, config, freezing=freezing)
    found = train(
        together, splits, config, Surroundings(world=world), lambda history, _: told.append(len(history)), freezing
    )
    return {
        "expected": [asdict(epoch) for epoch in expected],
        "found": [asdict(epoch) for epoch in found],
        "judged": judged(together, splits),
        "difference": largest_difference(alone, together),
        "moved": largest_difference(quillnet(), together),
        "told": told,
    }


def norm(make, shape: tuple[int, ...], world: World) -> dict:
    """A norm's answers, gradients and statistics over both shares against one norm that has the whole batch.

    The values lie far from zero and close together, where a variance by squares would lose all digits.
    """
    torch.manual_seed(2)
    whole = torch.randn(shape) * 0.1 + 1000
    outside = torch.randn(shape)  # what the loss weighs the answers by
    one, other = make(), synchronized(nn.Sequential(make()), torch.device("cpu"))
    x = whole.clone().requires_grad_()
    expected = one(x)
    (expected * outside).sum().backward()
    mine = whole[world.rank :: world.size].clone().requires_grad_()
    answer = other(mine)
    (answer * world.share(outside)).sum().backward()
    gradients = [
        (a.grad - world.total(b.grad.clone())).abs().max().item()
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    ]
    statistics = largest_difference(one, other[0])
    one.eval(), other.eval()
    return {
        "answer": (answer - world.share(expected)).abs().max().item(),
        "input gradient": (mine.grad - world.share(x.grad)).abs().max().item(),
        "input gradient size": x.grad.abs().max().item(),
        "gradients": max(gradients, default=0.0),
        "statistics": statistics,
        "eval": (other(mine) - one(mine)).abs().max().item(),
    }


NORMS = {
    "2d": (lambda: nn.BatchNorm2d(3), (7, 3, 4, 5)),
    "1d": (lambda: nn.BatchNorm1d(3), (9, 3)),
    "plain": (lambda: nn.BatchNorm2d(3, affine=False), (7, 3, 4, 5)),
    "mean of all": (lambda: nn.BatchNorm2d(3, momentum=None), (7, 3, 4, 5)),
    "no statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (7, 3, 4, 5)),
}


def resumed(folder: Path, splits: Splits, world: World) -> float:
    """Stop after the first epoch and go on, each process with a disk of its own; the first alone has the state."""
    state = folder / f"disk{world.rank}" / "net.state"

    def keep(history, weights) -> None:
        if len(history) == 1:
            shutil.copy(state, folder / "kept")

    whole, again = quillnet(), quillnet()
    train(whole, splits, PLAIN, Surroundings(state=state, world=world), keep)
    if world.writes:
        shutil.copy(folder / "kept", state)
    train(again, splits, PLAIN, Surroundings(state=state, resume=True, world=world))
    return largest_difference(whole, again)


def draws(splits: Splits, world: World) -> list[float]:
    """Return the first random number that each process's network draws."""
    drawn = []

    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(28 * 28, 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            drawn.append(torch.rand(1).item())
            return self.head(image.flatten(1))

    train(Drawing(), splits, PLAIN, Surroundings(world=world))
    return world.gather(drawn[0])


def refusal(splits: Splits, world: World) -> str:
    try:
        train(quillnet(), splits, replace(PLAIN, batch_size=1), Surroundings(world=world))
    except ConfigError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    splits = noise()
    with joined("cpu") as world:
        found = {
            "world": [world.rank, world.size],
            "trainings": {name: training(name, splits, world) for name in TRAININGS},
            "norms": {name: norm(make, shape, world) for name, (make, shape) in NORMS.items()},
            "resumed": resumed(folder, splits, world),
            "draws": draws(splits, world),
            "refusal": refusal(splits, world),
        }
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
