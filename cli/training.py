"""The verbs that make networks: train and finetune."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, print_json, print_table, tracker
from quillrt.cli.model_files import ModelFile, checkpoint_file
from quillrt.cli.options import Dataset, ModelDataset, check_output, config_beside, save_config
from quillrt.cli.training_options import DENOISE, SIZE, options, settings
from quillrt.cli.verbs import with_options
from quillrt.runtime.errors import ConfigError

if TYPE_CHECKING:
    from quillrt.train.checkpoint import Checkpoint
    from quillrt.train.config import TrainConfig
    from quillrt.train.datasets import Splits
    from quillrt.train.distributed import World
    from quillrt.train.training import Surroundings

Model = Annotated[str, typer.Option("--model", help="cnn, quillnet, rnn, or module:factory for your own network.")]


@with_options(options())
def train(
    ctx: typer.Context,
    dataset: Dataset = "digits",
    model: Model = "cnn",
    size: SIZE = 28,
    denoise: DENOISE = None,
    **chosen: Any,
) -> None:
    """Train a network from scratch and judge it on the test part."""
    from quillrt.runtime.preprocessing import Preprocessing
    from quillrt.train import training
    from quillrt.train.datasets import load_dataset

    config, path = _start(chosen, Path("runs", f"{_file_name(dataset)}-{_file_name(model)}.safetensors"))
    recipe = Preprocessing(height=size, width=size, denoise=tuple(denoise or ()))
    splits = _narrowed(load_dataset(dataset, chosen["data_root"], recipe), chosen)
    with _joined(config) as world:
        report = _Reporter(ctx, chosen, path, dataset, config, world)
        surroundings = _surroundings(chosen, path, splits, world)
        with report.interruptible():
            trained = training.train_new(model, splits, config, surroundings, report.epoch)
        report.finish(trained, splits)


@with_options(options(epochs=10, lr=5e-4))
def finetune(
    ctx: typer.Context,
    checkpoint: Annotated[
        ModelFile,
        typer.Argument(
            parser=checkpoint_file, help="Where to start: a checkpoint (.safetensors), models:NAME, or PyTorch's .pth."
        ),
    ],
    dataset: ModelDataset = None,
    model: Annotated[
        str | None, typer.Option("--model", help="For PyTorch weights: the network they are of, as for train.")
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PATTERN", help="Parameters to leave as they are, as 'conv*'; repeat."),
    ] = None,
    head_only: Annotated[bool, typer.Option("--head-only", help="Train the last layer alone.")] = False,
    unfreeze_every: Annotated[
        int,
        typer.Option("--unfreeze-every", min=0, help="Begin with the last layer; one more joins after so many epochs."),
    ] = 0,
    **chosen: Any,
) -> None:
    """Train a checkpoint on: other data, other classes, part of it frozen, or with a teacher."""
    from quillrt.train import finetuning
    from quillrt.train.checkpoint import load_checkpoint
    from quillrt.train.datasets import load_dataset, recorded_name
    from quillrt.train.freezing import Freezing
    from quillrt.train.pth import SUFFIXES

    freezing = Freezing(tuple(freeze or ()), head_only, unfreeze_every)
    foreign = checkpoint.path.suffix in SUFFIXES
    if foreign is (model is None):
        raise ConfigError(
            f"expected --model beside PyTorch weights (.pth), which do not name their network, and only there; "
            f"found {checkpoint} and {'none' if model is None else model}"
        )
    start = None if foreign else load_checkpoint(checkpoint.path)
    name = dataset or (start and recorded_name(start.training)) or "digits"
    config, path = _start(chosen, Path("runs", f"{checkpoint.path.stem}-on-{_file_name(name)}.safetensors"))
    data = load_dataset(name, chosen["data_root"], *([start.spec.preprocessing] if start else ()))
    splits = _narrowed(data, chosen)
    with _joined(config) as world:
        report = _Reporter(ctx, chosen, path, name, config, world)
        if start is None:
            start = report.matched(checkpoint.path, model or "", splits)
        surroundings = _surroundings(chosen, path, splits, world)
        with report.interruptible():
            tuned = finetuning.finetune(
                start, splits, config, freezing, surroundings=surroundings, on_epoch=report.epoch
            )
        report.finish(tuned, splits)


VERBS = (train, finetune)


def _file_name(name: str) -> str:
    """Return what to call files after a data set or a model."""
    from quillrt.train.datasets import public_name

    return public_name(name).removeprefix("folder:").replace(":", ".")


def _start(chosen: dict[str, Any], output: Path) -> tuple[TrainConfig, Path]:
    """Return the settings and the path to write, once it is known that it can be written."""
    config, path = settings(chosen), chosen["output"] or output
    check_output(path, ".safetensors")
    if threads := chosen["threads"]:
        import torch

        torch.set_num_threads(threads)
    return config, path


def _joined(config: TrainConfig) -> Any:
    from quillrt.train.distributed import joined

    return joined(config.device)


def _narrowed(splits: Splits, chosen: dict[str, Any]) -> Splits:
    """Return ``splits`` as --classes, --per-class and --synthetic would have them."""
    if chosen["classes"] is not None:
        splits = splits.only([name.strip() for name in chosen["classes"].split(",")])
    if chosen["per_class"] is not None:
        from quillrt.train.splitting import per_class

        splits = replace(splits, train=per_class(splits.train, chosen["per_class"], chosen["seed"]))
    if chosen["synthetic"] is not None:
        from quillrt.train.synthetic import with_synthetic

        splits = replace(splits, train=with_synthetic(splits.train, chosen["synthetic"]))
    return splits


def _surroundings(chosen: dict[str, Any], path: Path, splits: Splits, world: World) -> Surroundings:
    from quillrt.train.teaching import load_teacher
    from quillrt.train.training import Surroundings

    state, teacher = _beside(path, "state"), None
    if chosen["resume"] and world.writes and not state.exists():
        note(f"nothing to resume at {state}: training from the start", chosen["quiet"])
    if chosen["teacher"] is not None:
        teacher = load_teacher(chosen["teacher"].path, splits, chosen["teacher_weight"], chosen["temperature"])
    return Surroundings(tracker(chosen["quiet"]), state, chosen["resume"], world, teacher)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


class _Reporter:
    """Writes and says what a training comes to, after each epoch and at the end; silent where another process does."""

    def __init__(
        self, ctx: typer.Context, chosen: dict[str, Any], path: Path, dataset: str, config: TrainConfig, world: World
    ) -> None:
        from quillrt.train.datasets import public_name

        self._chosen, self._path, self._config, self._world = chosen, path, config, world
        self._dataset = dataset
        self._facts: dict[str, Any] = {"dataset": public_name(dataset)}
        for name in ("per_class", "synthetic", "teacher"):
            if (value := chosen[name]) is not None:
                self._facts[name] = value if isinstance(value, int) else Path(str(value)).name
        self._board = None
        if (folder := chosen["tensorboard"]) is not None and world.writes:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder)
        if world.writes:
            save_config(ctx, config_beside(path))

    def matched(self, path: Path, model: str, splits: Splits) -> Checkpoint:
        """Return PyTorch weights as a checkpoint, and say what of them did not fit."""
        from quillrt.runtime.spec import character_spec
        from quillrt.train.pth import load_pth

        found = load_pth(path, model, character_spec(splits.classes, splits.preprocessing), self._config.seed)
        for names, what in (
            (found.fresh, "not in the file, or of another shape: fresh weights"),
            (found.unused, "not used"),
        ):
            if names and self._world.writes:
                note(f"{path}: {what}: {', '.join(names)}", self._chosen["quiet"])
        return found.checkpoint

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Say after Ctrl-C how to go on."""
        try:
            yield
        except KeyboardInterrupt:
            if self._world.writes and (state := _beside(self._path, "state")).exists():
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
        """Write the checkpoint, the table and the curves."""
        from quillrt.train.checkpoint import save_checkpoint
        from quillrt.train.curves import plot_history, write_history

        history = checkpoint.training["history"]
        save_checkpoint(self._path, self._named(checkpoint))
        write_history(_beside(self._path, "csv"), history)
        plot_history(_beside(self._path, "png"), history, f"{checkpoint.model} on {self._dataset}")

    def finish(self, checkpoint: Checkpoint, splits: Splits) -> None:
        """Tell how good the network is on the test part."""
        if not self._world.writes:
            return
        from quillrt.benchmarks.torch_sessions import EagerSession
        from quillrt.train.evaluation import evaluate as judge

        self._write(checkpoint)  # again, for a training resumed after its last epoch had none here
        with EagerSession(checkpoint) as session:
            result = judge(session, splits.test)
        said = {
            "path": str(self._path),
            "accuracy": result.accuracy,
            "n": result.n,
            "seconds": checkpoint.training["seconds"],
            "parameters": sum(parameter.numel() for parameter in checkpoint.module().parameters()),
        }
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
        print_table(f"{checkpoint.model} on {self._dataset}", columns, [row])

    def _named(self, checkpoint: Checkpoint) -> Checkpoint:
        return replace(checkpoint, training={**self._facts, **checkpoint.training})
