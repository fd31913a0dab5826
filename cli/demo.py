"""The whole line on embedded data: the very commands a user would type, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.console import note, print_json, print_table
from quillrt.cli.options import Debug, Json, Quiet
from quillrt.runtime.counting import counted

if TYPE_CHECKING:
    from quillrt.runtime.imageset import ImageSet

_DATASET = "digits"
_LEAST_ACCURACY = 0.975  # of the network on the test part; with less, something in the line is broken
_IMAGES = 20


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that is made.")] = Path("runs/demo"),
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="Measured per row of the benchmark.")] = 1.0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train, fine-tune, compile, verify, run and benchmark on embedded data: about two minutes."""
    line = _Line(quiet)
    base, tuned, bundle, images = (
        output / name for name in ("base.safetensors", "tuned.safetensors", "model.quill", "images")
    )
    trained = line.step("train", "--dataset", _DATASET, "--output", base)
    line.found("train", f"{100 * trained['accuracy']:.2f} % on {trained['n']} test images")
    finetuned = line.step(
        *("finetune", base, "--dataset", _DATASET, "--freeze", "conv*", "--epochs", 5, "--lr", 2e-4, "--output", tuned)
    )
    line.found("finetune", f"{100 * finetuned['accuracy']:.2f} % on {finetuned['n']} test images, convolutions frozen")
    line.step("compile", tuned, "--dataset", _DATASET, "--output", bundle)
    held = line.step("inspect", bundle)
    line.found("compile", _engines(held))
    verdicts = line.step("verify", bundle, "--dataset", _DATASET)
    line.found("verify", _agreement(verdicts))
    expected = _write_images(images)
    answers = line.step("run", bundle, images)
    right = sum(expected[Path(p["image"]).name] == p["top"][0]["label"] for p in answers["predictions"])
    line.found("run", f"{right} of {len(expected)} PNG files right, {answers['file']} on {answers['backend']}")
    report = output / "bench"
    measured = line.step(
        *("bench", bundle, "--checkpoint", tuned, "--dataset", _DATASET, "--seconds", seconds, "--output", report)
    )
    line.found("bench", _fastest(measured))

    made = {"checkpoint": str(tuned), "bundle": str(bundle), "report": str(report / "result.md")}
    if as_json:
        print_json({"steps": line.rows, "made": made})
    else:
        print_table("quillrt demo", ("step", "result", "seconds"), line.rows)
        for name, path in made.items():
            typer.echo(f"{name:<10}  {path}")
    _judge(min(trained["accuracy"], finetuned["accuracy"]), right)


@dataclass
class _Line:
    """Runs verbs as commands of their own and keeps what each gave and took."""

    quiet: bool
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    _seconds: dict[str, float] = field(default_factory=dict)

    def step(self, verb: str, *arguments: object) -> Any:
        """Run a verb, its notes on stderr as they come, and return its JSON."""
        words = [verb, *map(str, arguments)]
        note(f"\n$ quillrt {' '.join(words)}", self.quiet)
        started = time.perf_counter()
        command = [sys.executable, "-m", "quillrt.cli", *words, "--json"]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE if self.quiet else None, text=True, check=False
        )
        self._seconds[verb] = time.perf_counter() - started
        if done.returncode:
            note(f"{done.stderr or ''}quillrt demo: stopped, for quillrt {verb} failed (exit code {done.returncode})")
            raise typer.Exit(1)
        return json.loads(done.stdout)

    def found(self, verb: str, result: str) -> None:
        """Keep the result of a step for the table at the end."""
        self.rows.append((verb, result, f"{self._seconds[verb]:.1f}"))


def _engines(manifest: dict[str, Any]) -> str:
    entries = [e for e in manifest["entries"] if e["precision"]]
    graphs = [e["path"] for e in entries if e["kind"] == "onnx"]
    engines = [e["path"] for e in entries if e["kind"] == "engine"]
    return f"{len(graphs)} ONNX graphs, engines: {', '.join(engines) or 'none, no TensorRT builder works here'}"


def _agreement(verdicts: Sequence[dict[str, Any]]) -> str:
    ran = [v for v in verdicts if v["n"]]
    waiting = sorted({v["backend"] for v in verdicts if not v["n"]})
    worst = max(v["drop"] for v in ran)
    text = f"{len(ran)} files agree, largest drop {worst:+.2f} points (n = {ran[0]['n']})"
    return text + (f"; not run here: {', '.join(waiting)}" if waiting else "")


def _fastest(result: dict[str, Any]) -> str:
    measured = [r for r in result["rows"] if r["measured"]]
    rows = [r for r in measured if r["verdict"] != "wrong"]
    parts = []
    for batch in sorted({r["batch"] for r in rows}):
        best = min((r for r in rows if r["batch"] == batch), key=lambda r: r["measured"]["median_ms"])
        name = f"{best['backend']} {best['precision']}"
        parts.append(f"batch {batch}: {name} {best['measured']['median_ms']:.3g} ms, {_speedup(best)}")
    return "; ".join(parts) + f"; {counted(len(result['rows']) - len(measured), 'row')} could not run here"


def _speedup(row: dict[str, Any]) -> str:
    return ", ".join(f"{found['ratio']:.1f} × {name}" for name, found in row["speedup"].items())


def _write_images(folder: Path) -> dict[str, str]:
    """Write the first test images as PNG files, four times as large, dark on light; return file name to label."""
    from PIL import Image

    from quillrt.train.datasets import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    test: ImageSet = load_dataset(_DATASET).test
    written = {}
    for i in range(_IMAGES):
        name = f"{i:02d}.png"
        picture = Image.fromarray(255 - test.images[i])
        picture.resize((4 * picture.width, 4 * picture.height)).save(folder / name)
        written[name] = test.classes[test.labels[i]]
    return written


def _judge(accuracy: float, right: int) -> None:
    """Raise unless the network learned and the files were read.

    Raises:
        AccuracyError: the accuracy is under 97.5 %, or more than two files were read wrongly.
    """
    from quillrt.runtime.errors import AccuracyError

    if accuracy < _LEAST_ACCURACY or right < _IMAGES - 2:
        raise AccuracyError(
            f"expected at least {100 * _LEAST_ACCURACY} % on the test part and {_IMAGES - 2} of {_IMAGES} files right, "
            f"found {100 * accuracy:.2f} % and {right}"
        )
