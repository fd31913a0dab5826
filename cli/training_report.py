"""What is written and said of a training while it goes on and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.options import config_beside, save_config

if TYPE_CHECKING:
    from quillrt.train.checkpoint import Checkpoint
    from quillrt.train.config import TrainConfig
    from quillrt.train.datasets import Splits
    from quillrt.train.distributed import World
    from quillrt.train.pth import Matched


def beside(path: Path, suffix: str) -> Path:
    """Return the file next to ``path`` that has this for a second suffix."""
    return path.with_name(f"{path.name}.{suffix}")


class Reporter:
    """Writes and says what a training comes to, after each epoch and at the end; silent where another process does."""

    def __init__(
        self, ctx: typer.Context, chosen: dict[str, Any], path: Path, dataset: str, config: TrainConfig, world: World
    ) -> None:
        from quillrt.train.datasets import public_name

        self._ctx, self._chosen, self._path, self._config, self._world = ctx, chosen, path, config, world
        self._facts: dict[str, Any] = {"dataset": public_name(dataset)}
        for name in ("per_class", "synthetic"):
            if (value := chosen[name]) is not None:
                self._facts[name] = value if isinstance(value, int) else value.name
        if teachers := chosen["teacher"]:
            self._facts["teacher"] = [Path(each.given).name for each in teachers]
        self._board = None
        if (folder := chosen["tensorboard"]) is not None and world.writes:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder)

    def matched(self, path: Path, found: Matched) -> None:
        """Say what of PyTorch weights did not fit."""
        reshaped = [f"{name} {theirs}, not {ours}" for name, (theirs, ours) in found.reshaped.items()]
        for names, what in (
            ([name for name in found.fresh if name not in found.reshaped], "fresh weights, for the file lacks them"),
            (reshaped, "fresh weights, for the file has them in another shape"),
            (found.unused, "not used"),
        ):
            if names and self._world.writes:
                note(f"{path}: {what}: {', '.join(names)}", self._chosen["quiet"])

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Say after Ctrl-C how to go on, if there is something to go on with."""
        state = beside(self._path, "state")
        older = _written(state) if not self._chosen["resume"] else None  # of another training
        try:
            yield
        except KeyboardInterrupt:
            if self._world.writes and _written(state) not in (None, older):
                note(f"interrupted; the same command with --resume goes on after the last whole epoch ({state})")
            raise

    def epoch(self, checkpoint: Checkpoint) -> None:
        """Write what there is by now; say one line."""
        self._write(checkpoint)
        last = checkpoint.training["history"][-1]
        if self._board is not None:
            for name in ("lr", "loss", "accuracy", "validation_loss", "validation_accuracy"):
                self._board.add_scalar(name, last[name], last["number"])
            self._board.flush()
        note(
            f"epoch {last['number']}/{self._config.epochs}: loss {last['loss']:.4f}, "
            f"validation {last['validation_accuracy']:.2%}, {last['seconds']:.1f} s",
            self._chosen["quiet"],
        )

    def _write(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint, its configuration, the table and the curves."""
        from quillrt.train.checkpoint import save_checkpoint
        from quillrt.train.curves import plot_history, write_history

        history = checkpoint.training["history"]
        save_checkpoint(self._path, self._named(checkpoint))
        save_config(self._ctx, config_beside(self._path))
        write_history(beside(self._path, "csv"), history)
        plot_history(beside(self._path, "png"), history, f"{checkpoint.model} on {self._facts['dataset']}")

    def finish(self, checkpoint: Checkpoint, splits: Splits) -> None:
        """Tell how good the network is on the test part."""
        if not self._world.writes:
            return
        from quillrt.benchmarks.torch_sessions import EagerSession
        from quillrt.train.evaluation import evaluate as judge

        self._write(checkpoint)  # again, for a training resumed after its last epoch had none here
        with EagerSession(checkpoint) as session:
            result = judge(session, splits.test, track=tracker(self._chosen["quiet"]))
        said = {
            "path": str(self._path),
            "accuracy": result.accuracy,
            "n": result.n,
            "seconds": checkpoint.training["seconds"],
            "parameters": sum(parameter.numel() for parameter in checkpoint.module().parameters()),
        }
        title = f"{checkpoint.model} on {self._facts['dataset']}"
        if "qat" in checkpoint.training:
            said["int8_validation_accuracy"] = checkpoint.training["history"][-1]["validation_accuracy"]
            title += (
                f", in FP32; in INT8, as it was trained, {said['int8_validation_accuracy']:.2%} of the validation part"
            )
        if self._chosen["as_json"]:
            print_json(said)
            return
        columns = ("checkpoint", "test accuracy", "n", "training s", "parameters")
        row = (
            said["path"],
            f"{result.accuracy:.2%}",
            f"{result.n:,}",
            f"{said['seconds']:.1f}",
            f"{said['parameters']:,}",
        )
        print_table(title, columns, [row])

    def _named(self, checkpoint: Checkpoint) -> Checkpoint:
        return replace(checkpoint, training={**self._facts, **checkpoint.training})


def _written(path: Path) -> int | None:
    """Return when a file was written last, in nanoseconds; ``None`` if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else None
