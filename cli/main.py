"""The `quillrt` command: every verb, and how errors and interrupts end."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from pathlib import Path

import typer

from quillrt.cli.console import error_line
from quillrt.cli.every_verb import GROUPS, MODULES
from quillrt.cli.options import debugging
from quillrt.runtime.errors import QuillError
from quillrt.runtime.termination import exit_on_sigterm

# What a verb may lack -> the extra that brings it. Backends say it themselves, for they may be many in one bundle.
_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "safetensors", "sklearn", "matplotlib"), "train"),
    "tensorboard": "tensorboard",
    "jsonschema": "bench",
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime", "google"), "compile"),
}


def application(verb: str | None = None) -> typer.Typer:
    """Return the program with ``verb`` alone, or with all of them where none is called so.

    Loading the others takes a fifth of the start-up time of `quillrt run`.
    """
    app = typer.Typer(
        name="quillrt",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name in [verb] if verb in MODULES else MODULES:
        module = import_module(f"quillrt.cli.{MODULES[name]}")
        if name in GROUPS:
            app.add_typer(module.app)
        else:
            app.command()(getattr(module, name))
    return app


def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Train, calibrate, compile, run and measure handwriting recognition for edge devices."""
    if version:
        from quillrt.runtime.versions import versions

        print(f"quillrt {versions('quillrt')['quillrt']}")  # noqa: T201
        raise typer.Exit


def main() -> None:
    """Run the command line: 0 done, 1 a foreseen error in one line, 2 wrong usage, 130 interrupted, 143 terminated."""
    _open_streams()
    exit_on_sigterm()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be UTF-8: they go out as they came in
    try:
        try:
            asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
            application(asked)(prog_name="quillrt")
        finally:
            _flush()
    except QuillError as error:
        if debugging():
            raise
        _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if debugging() or package not in _EXTRAS:
            raise
        _fail(f"this needs the package {package}: pip install 'quillrt[{_EXTRAS[package]}]'")
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.exit(1)
    except OSError as error:
        if debugging():
            raise
        _fail(f"{error.strerror or error}: {error.filename or 'input or output'}; check path, permissions and disk")


def _open_streams() -> None:
    """Open what the caller closed of stdin, stdout and stderr on nothing, or the next file would take its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - as long as the program


def _flush() -> None:
    """Write out what stdout still holds; raise if the disk is full or the reader went away."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None  # or the interpreter would try again at its end, and complain
        raise


def _fail(message: str) -> None:
    print(error_line(message), file=sys.stderr)  # noqa: T201
    sys.exit(1)
