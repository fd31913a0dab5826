"""The verb deploy: a bundle put where a server serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import note, print_json, print_table
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import Config, Debug, Json, Quiet, config_text, precision_of

app = typer.Typer(name="deploy", no_args_is_help=True, help="Put a bundle where a server serves it.")


@app.callback()
def deploy() -> None:
    """Put a bundle where a server serves it."""  # the callback keeps triton a verb of its own


@app.command()
def triton(
    ctx: typer.Context,
    bundle: BundleFile,
    repository: Annotated[Path, typer.Option("--repository", help="The server's folder of models; made if missing.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the model. Default: the bundle's file name.")] = None,
    version: Annotated[int, typer.Option("--version", min=1, help="Beside those that are there.")] = 1,
    backend: Annotated[
        str, typer.Option("--backend", help="onnxruntime, or tensorrt where the bundle has an engine for the GPU.")
    ] = "onnxruntime",
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="Of the bundle's graphs or engines. Default: as run for that --kind here."),
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="gpu, cpu, or auto: GPUs where the server has them.")] = "auto",
    gpu: Annotated[
        list[int] | None, typer.Option("--gpu", min=0, max=1023, help="Number of a GPU; repeat. Default: all.")
    ] = None,
    instances: Annotated[
        int, typer.Option("--instances", min=1, help="Copies of the model, for each GPU or on the CPU.")
    ] = 1,
    max_batch: Annotated[
        int | None,
        typer.Option(
            "--max-batch",
            min=0,
            help="Images in one run at most; 0: requests are not batched. Default: 64, or what the engine takes.",
        ),
    ] = None,
    preferred_batch: Annotated[
        list[int] | None,
        typer.Option("--preferred-batch", min=1, help="Run a batch of this size without waiting; repeat."),
    ] = None,
    max_queue_delay_us: Annotated[
        int, typer.Option("--max-queue-delay-us", min=0, help="Microseconds a request may wait for others.")
    ] = 0,
    version_policy: Annotated[
        str, typer.Option("--version-policy", help="Versions to serve: latest, latest:2, all, or such as 1,3.")
    ] = "latest",
    warmup: Annotated[
        list[Path] | None,
        typer.Option("--warmup", help="Image file, or folder of them, to run before the model is ready; repeat."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the version, and what differs of what all versions share.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Write a bundle into the model repository of a Triton server: configuration, labels, model, warm-up inputs."""
    from quillrt.compile.triton import deploy as deployment_of
    from quillrt.compile.triton_config import Serving
    from quillrt.compile.triton_repository import add_version
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.errors import ConfigError
    from quillrt.runtime.images import find_images, read_image

    serving = Serving(
        max_batch, tuple(preferred_batch or ()), max_queue_delay_us, instances, kind, tuple(gpu or ()), version_policy
    )
    if not serving.serves(version):
        raise ConfigError(f"expected version {version} among those that are served, found {version_policy}; add it")
    opened = Bundle.open(bundle.path)
    images = [(_text(path), read_image(path)) for path in find_images(warmup or ())]
    model = bundle.path.stem if name is None else name
    made = deployment_of(opened, model, backend, precision_of(precision), serving, images)
    note(f"{', '.join(entry.path for entry in made.entries)} on Triton's {backend}, kind {kind}", quiet)
    if made.needs:
        note(f"the engine is version-compatible: start the server with {made.needs}, if you trust its maker", quiet)
    files = {**made.version, "deploy.toml": config_text(ctx).encode()}
    add_version(repository, model, version, made.shared, files, force=force)
    sizes = {
        **{path: len(data) for path, data in made.shared.items()},
        **{f"{version}/{path}": len(data) for path, data in files.items()},
    }
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "repository": str(repository),
                "model": model,
                "version": version,
                "backend": backend,
                "entries": [entry.path for entry in made.entries],
                "max_batch": made.config.max_batch,
                "server_needs": made.needs,
                "files": sizes,
            }
        )
        return
    batches = f"batches of up to {made.config.max_batch}" if made.config.max_batch else "requests are not batched"
    print_table(f"{model}: {batches}", ("file", "bytes"), [(path, f"{size:,}") for path, size in sizes.items()])


def _text(path: Path) -> str:
    """Return a file's name as UTF-8 can write it."""
    return path.name.encode("utf-8", "replace").decode()
