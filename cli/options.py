"""Options that several verbs share, and the TOML file that gives their defaults."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quillrt.cli.every_verb import MODULES
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.precision import Precision

if TYPE_CHECKING:
    from quillrt.runtime.cache import Cache

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NOT_IN_A_FILE = ("config", "debug", "help")
_MOST_CONFIG_BYTES = 2**20
_debug = False


def debugging() -> bool:
    """Tell whether ``--debug`` was given: errors then end in a traceback."""
    return _debug


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


def _read_config(ctx: typer.Context, value: Path | None) -> Path | None:
    """Make the table ``[verb]`` of a TOML file the defaults of this verb's options."""
    from quillrt.runtime.files import read_bounded

    if value is None:
        return None
    try:
        table = tomllib.loads(read_bounded(value, _MOST_CONFIG_BYTES).decode())
    except RecursionError as error:
        raise typer.BadParameter(f"expected a TOML file, but {value} nests too deep") from error
    except (OSError, ValueError) as error:  # TOML's and Unicode's errors are values'; so is a number without end
        raise typer.BadParameter(f"expected a TOML file, but {value}: {error}") from error
    verb = _verb(ctx)
    for context in _below_root(ctx):
        loaded = getattr(context.parent.command, "commands", {})
        verbs = {*loaded, *MODULES} if context.parent.parent is None else set(loaded)
        if strangers := sorted(set(table) - verbs):
            raise typer.BadParameter(
                f"expected a table per verb in {value}, such as [{verb}], found {', '.join(strangers)}"
            )
        table = table.get(context.info_name or "", {})
        if not isinstance(table, dict):
            raise typer.BadParameter(f"expected a table [{verb}] in {value}, found {context.info_name} = {table!r}")
    options = {name.lstrip("-"): p for p in ctx.command.params for name in p.opts if p.name not in _NOT_IN_A_FILE}
    unknown = sorted(set(table) - set(options))
    if unknown:
        raise typer.BadParameter(
            f"[{verb}] in {value} has {', '.join(unknown)}; it may have {', '.join(sorted(options))}"
        )
    try:
        ctx.default_map = {options[key].name or "": _as_typed(key, options[key], s) for key, s in table.items()}
    except ConfigError as error:
        raise typer.BadParameter(f"[{verb}] in {value}: {error}") from error
    return value


def _as_typed(key: str, option: Any, setting: Any) -> Any:
    """Return what stands in a file as it would on the command line: click takes 1.5 and true for 1 where it wants 1.

    Raises:
        ConfigError: it cannot stand there.
    """
    if getattr(option, "is_flag", False):
        if not isinstance(setting, bool):
            raise ConfigError(f"expected {key} = true or false, found {setting!r}")
        return setting
    several = getattr(option, "multiple", False) or option.nargs == -1
    values = setting if several and isinstance(setting, list) else [setting]
    if any(isinstance(each, list | dict) for each in values):
        raise ConfigError(f"expected one value of {key}, found {setting!r}")
    return [str(each) for each in values] if several else str(setting)


def _below_root(ctx: typer.Context) -> list[Any]:
    """Return the contexts of the verbs that lead to this one, the outermost first: two for ``deploy triton``."""
    found: list[Any] = []
    context: Any = ctx
    while context.parent is not None:
        found.insert(0, context)
        context = context.parent
    return found


def _verb(ctx: typer.Context) -> str:
    """Return the name of a verb's table, such as ``run`` or ``deploy.triton``."""
    return ".".join(context.info_name or "" for context in _below_root(ctx))


def check_output(path: Path, suffix: str, *sources: Path) -> None:
    """Raise now, rather than after long work, unless ``path`` can be written, ends in ``suffix`` and is no source.

    Raises:
        ConfigError: another suffix, a folder or what is read in its place, or no folder above it that can be written.
    """
    if path.suffix != suffix:
        raise ConfigError(f"expected an output that ends in {suffix}, found {path}; give a name with it")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        what = path if path.is_dir() else above
        kind = "a folder" if path.is_dir() else "no folder that can be written"
        raise ConfigError(f"expected to write the file {path}, but {what} is {kind}; give another name")
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise ConfigError(f"expected to write another file than is read, found {path} for both; give another name")


def config_beside(output: Path) -> Path:
    """Return where the configuration of a written file lies: its name with ``.toml`` added."""
    return output.with_name(output.name + ".toml")


def save_config(ctx: typer.Context, path: Path) -> None:
    """Write the verb's resolved options to ``path`` as TOML that ``--config`` reads back."""
    from quillrt.runtime.files import write_text

    write_text(path, config_text(ctx))


def config_text(ctx: typer.Context) -> str:
    """Return the verb's resolved options as TOML that ``--config`` reads back."""
    lines = [f"[{_verb(ctx)}]"]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if parameter.name in ("config", "debug") or value is None:
            continue
        lines.append(f"{parameter.opts[0].lstrip('-')} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def given_options(ctx: typer.Context, *names: str) -> list[str]:
    """Return those options out of ``names``, with their values, that stood on the command line."""
    words: list[str] = []
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        source = ctx.get_parameter_source(name)
        if name in names and source is not None and source.name == "COMMANDLINE":
            for each in value if isinstance(value, list | tuple) else [value]:
                words += [parameter.opts[0], *([] if value is True else [str(each)])]
    return words


def _toml(value: Any) -> str:
    """Return a TOML literal; JSON's strings, numbers and booleans are TOML's too, but for escapes beyond 16 bits."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value if isinstance(value, bool | int | float | str) else str(value), ensure_ascii=False)


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read_config,
        is_eager=True,
        help="TOML file with a table per verb: defaults of these options.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show tracebacks.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")]
Dataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="digits, mnist, emnist-letters, emnist-balanced, emnist-byclass, kmnist, fashion-mnist or folder:PATH.",
    ),
]
ModelDataset = Annotated[
    str | None, typer.Option("--dataset", help="As for train; by default what the model was trained on.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", envvar="QUILLRT_DATA", help="Folder with data sets in torchvision's layout; it may be read-only."
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads inside one query.")]
Cached = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Take finished steps, as counts and engines, from an earlier run; in QUILLRT_CACHE or ~/.cache/quillrt.",
    ),
]
Device = Annotated[int, typer.Option("--device", min=0, help="Index of the GPU, where there are several.")]
CudaGraph = Annotated[bool, typer.Option("--cuda-graph", help="Submit each query to the GPU as one CUDA graph.")]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="tensorrt, tensorrt-rtx, onnxruntime-tensorrt, onnxruntime-cuda, onnxruntime-cpu, openvino or litert; "
        "eager or torch-compile of a checkpoint.",
    ),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--provider-option",
        metavar="KEY=VALUE",
        help="Option of the backend named, onnxruntime-cuda or onnxruntime-tensorrt, such as enable_cuda_graph=1; "
        "repeatable.",
    ),
]
RequireSignature = Annotated[
    Path | None,
    typer.Option("--require-signature", metavar="PUB.pem", help="Open only a bundle signed for this public key."),
]
PreprocessingWay = Annotated[
    str,
    typer.Option(
        "--preprocessing",
        help="as-is: a roughly cropped character on even ground; photo: one found on a photograph, on whatever paper; "
        "auto: what the image needs.",
    ),
]
PrecisionName = Annotated[str | None, typer.Option("--precision", help="Run this precision of the bundle.")]


def precision_of(name: str | None) -> Precision | None:
    """Return the precision called ``name``, ``None`` for none."""
    return None if name is None else Precision.parse(name)


def provider_options(pairs: list[str] | None) -> dict[str, str]:
    """Return what ``--provider-option`` was given, by key.

    Raises:
        ConfigError: one is no pair, or a key stands twice.
    """
    found: dict[str, str] = {}
    for key, value in option_pairs(pairs):
        if key in found:
            raise ConfigError(f"expected one value of {key}, found {found[key]} and {value}; leave one out")
        found[key] = value
    return found


def option_pairs(pairs: list[str] | None) -> list[tuple[str, str]]:
    """Return key and value of each ``KEY=VALUE``.

    Raises:
        ConfigError: one is no pair.
    """
    found = [pair.partition("=") for pair in pairs or ()]
    for key, sign, value in found:
        if not (key and sign):
            raise ConfigError(f"expected KEY=VALUE, found {key + sign + value!r}; such as enable_cuda_graph=1")
    return [(key, value) for key, _, value in found]


def variant_options(texts: list[str] | None) -> list[dict[str, str]]:
    """Return the options of each ``KEY=VALUE`` or ``KEY=VALUE,KEY=VALUE``; a value may hold commas of its own.

    Raises:
        ConfigError: one is no such pair.
    """
    return [dict(option_pairs(re.split(r",(?=\w+=)", text))) for text in texts or ()]


def cache_of(cached: bool) -> Cache:
    """Return where finished steps are kept, or a cache that keeps nothing."""
    from quillrt.runtime.cache import NO_CACHE, Cache, default_folder

    return Cache(default_folder()) if cached else NO_CACHE
