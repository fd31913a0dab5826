"""How thin the runtime is, beside torch and torchvision: `make thin-report`.

The runtime is installed into a fresh virtual environment (`quillrt`, then `quillrt[ort]`). torch and torchvision are
those of the Python that runs this, for they are gigabytes to install again; their size is that of their distributions
and of all that these require, by the lists of files that pip kept. Every figure is of new processes, one of each kind
in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from PIL import Image, ImageDraw

from quillrt.benchmarks.environment import describe, hardware_line
from quillrt.benchmarks.report import markdown_table
from quillrt.benchmarks.script import run
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.files import write_text
from quillrt.runtime.pretrained import find
from quillrt.runtime.versions import versions

_NOT_OURS = ("pip", "setuptools", "wheel", "_distutils_hack", "distutils-precedence", "__pycache__")
_OPEN = "import quillrt.runtime as qr; qr.open; import onnxruntime"


@dataclass(frozen=True)
class Sample:
    """What a process took: seconds by the clock and of processor time, and its largest memory (RSS) in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def install(folder: Path, source: Path) -> tuple[Path, dict[str, float]]:
    """Install the runtime from ``source`` and return its Python, and the MB of it bare and with onnxruntime."""
    venv.create(folder, with_pip=True, clear=True)
    sizes = {}
    for extra in ("", "[ort]"):
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{source}{extra}"], check=True, stdout=sys.stderr)
        (packages,) = folder.glob("lib/python*/site-packages")
        tops = (top for top in packages.iterdir() if not top.name.startswith(_NOT_OURS))
        sizes[f"quillrt{extra}"] = sum(_bytes(top) for top in tops) / 1e6
    return folder / "bin" / "python", sizes


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def closure_mb(*roots: str) -> float:
    """Return the MB of the distributions ``roots`` and of all that they require here."""
    from packaging.requirements import Requirement

    waiting, seen = list(roots), dict[str, Distribution]()
    while waiting:
        try:
            found = distribution(waiting.pop())
        except PackageNotFoundError:  # asked for elsewhere only
            continue
        if found.name in seen:
            continue
        seen[found.name] = found
        wanted = map(Requirement, found.requires or ())
        waiting += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    files = {file.locate() for found in seen.values() for file in found.files or ()}
    return sum(Path(str(file)).stat().st_size for file in files if Path(str(file)).is_file()) / 1e6


def sample(command: Sequence[object], answer: str | None = None) -> Sample:
    """Run a process to its end.

    Raises:
        ConfigError: it fails, or does not print ``answer`` among its words.
    """
    launcher = (sys.executable, "-I", "-S", Path(__file__).with_name("lone_process.py"))
    words = [str(word) for word in (*launcher, *command)]
    taken = json.loads(subprocess.run(words, check=True, capture_output=True, env=_surroundings(command[0])).stdout)
    code, said = taken.pop("code"), taken.pop("said")
    if code or (answer is not None and answer not in said.split()):
        raise ConfigError(f"expected {answer or 'success'} of {command[0]} {command[1]}, found {said[-200:]!r}")
    return Sample(**taken)


def _surroundings(program: object) -> dict[str, str]:
    """Return the environment of a process: the fresh one has its own packages, and both keep their compiled modules."""
    out = {"PYTHONDONTWRITEBYTECODE", *(["PYTHONPATH"] if program != sys.executable else [])}
    return {key: value for key, value in os.environ.items() if key not in out}


def draw_one(path: Path) -> str:
    """Write a 1 as MNIST has them, 28 x 28 and light on dark, and return its label."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line([(15, 5), (13, 22)], fill=255, width=3)
    image.save(path)
    return "1"


def measure(python: Path, folder: Path, rounds: int) -> dict[str, list[Sample]]:
    """Run each kind of process once, unmeasured, and then ``rounds`` times in turn."""
    image = folder / "1.png"
    label = draw_one(image)
    recipe = Bundle.open(find("digits", ".quill")).manifest.model.preprocessing
    torch_words = ["-m", "quillrt.benchmarks.thin_torch", find("digits", ".safetensors"), recipe.mean, recipe.std]
    kinds: dict[str, tuple[list[object], str | None]] = {
        "import runtime": ([python, "-c", _OPEN], None),
        "import torch": ([sys.executable, "-c", "import torch"], None),
        "import torch, torchvision": ([sys.executable, "-c", "import torch, torchvision"], None),
        "quillrt run": ([python.with_name("quillrt"), "run", "models:digits", image], label),
        "torch predicts": ([sys.executable, *torch_words, image], label),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name, (command, answer) in kinds.items():
            taken = sample(command, answer)
            if number:
                samples[name].append(taken)
    return samples


def medians(samples: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, float]]:
    """Return the median of each figure by kind of process."""
    return {
        name: {figure: median(getattr(each, figure) for each in taken) for figure in ("wall_s", "cpu_s", "peak_mb")}
        for name, taken in samples.items()
    }


def table(sizes: Mapping[str, float], found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures in Markdown, ours beside torch's."""

    def row(what: str, ours: float, theirs: float, form: str) -> tuple[str, ...]:
        return what, form.format(ours), form.format(theirs), f"{ours / theirs:.3f}"

    def times(what: str, ours: str, theirs: str) -> list[tuple[str, ...]]:
        words = (("by the clock", "wall_s"), ("processor time", "cpu_s"))
        return [row(f"{what}, {word}", found[ours][key], found[theirs][key], "{:.2f} s") for word, key in words]

    bare, with_ort, torch_mb = sizes["quillrt"], sizes["quillrt[ort]"], sizes["torch, torchvision"]
    rows = [
        row("installed, with onnxruntime", with_ort, torch_mb, "{:,.0f} MB"),
        row("installed, bare", bare, torch_mb, "{:,.0f} MB"),
        *times("import", "import runtime", "import torch, torchvision"),
        *times("one image, from start to end", "quillrt run", "torch predicts"),
        *times("`quillrt run` beside `import torch` alone", "quillrt run", "import torch"),
        row("peak memory, one image", found["quillrt run"]["peak_mb"], found["torch predicts"]["peak_mb"], "{:.0f} MB"),
    ]
    return markdown_table(("", "quillrt, onnxruntime", "torch, torchvision", "ratio"), rows)


def overhead_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what ``Session.run`` adds, in Markdown."""
    cells = [
        (
            row["file"],
            f"{row['onnxruntime_us']:.1f}",
            f"{row['session_us']:.1f}",
            f"{row['session_us'] - row['onnxruntime_us']:.1f}",
        )
        for row in rows
    ]
    return markdown_table(("batch 1, one thread, µs", "onnxruntime `run`", "`Session.run`", "difference"), cells)


def main(
    source: Annotated[Path, typer.Option("--source", help="The checkout to install.")] = Path(),
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="Processes of each kind.")] = 15,
    output: Annotated[Path, typer.Option("--output", help="Folder of thin.json and thin.md.")] = Path("runs/thin"),
) -> None:
    """Measure the runtime's size, import, cold start, memory and overhead beside torch and torchvision."""
    if not (source / "pyproject.toml").is_file():
        raise ConfigError(f"expected a checkout of quillrt at {source}, found none; give --source")
    output.mkdir(parents=True, exist_ok=True)
    python, sizes = install(output / "venv", source.resolve())
    sizes["torch, torchvision"] = closure_mb("torch", "torchvision")
    samples = measure(python, output, rounds)
    words = [str(python), "-m", "quillrt.benchmarks.session_overhead"]
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=_surroundings(python))
    overhead, machine = json.loads(told.stdout), describe()
    result = {
        "environment": machine,
        "torchvision": versions("torchvision"),
        "rounds": rounds,
        "installed_mb": sizes,
        "medians": medians(samples),
        "samples": {name: [vars(each) for each in taken] for name, taken in samples.items()},
        "session_overhead": overhead,
    }
    packages = {**machine["packages"], **versions("torchvision")}
    named = ", ".join(
        f"{name} {packages[name]}" for name in ("onnxruntime", "torch", "torchvision") if name in packages
    )
    page = (
        f"{table(sizes, medians(samples))}\n{overhead_table(overhead)}\n"
        f"{hardware_line(machine)}, {named}; load {machine['start']['load_average']}. Medians of n = "
        f"{rounds} processes of each kind, in turn; of {overhead[0]['queries']:,} queries of each, in turn. "
        "The runtime in a fresh virtual environment; torch's size by the lists of files of its distributions and of "
        "what they require.\n"
    )
    write_text(output / "thin.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_text(output / "thin.md", page)
    sys.stdout.write(page)


if __name__ == "__main__":
    run(main)
