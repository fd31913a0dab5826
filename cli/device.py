"""Verbs that a device needs: run, doctor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quillrt.cli.console import note, phase_bars, print_json, print_table
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import (
    Backend,
    Cached,
    Config,
    CudaGraph,
    Debug,
    Json,
    PrecisionName,
    ProviderOption,
    Quiet,
    Threads,
    cache_of,
    precision_of,
    provider_options,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def run(
    bundle: BundleFile,
    images: Annotated[list[Path], typer.Argument(help="Image files, folders of them, or - for one image on stdin.")],
    backend: Backend = None,
    precision: PrecisionName = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels per image.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536, help="Images per query.")] = 64,
    threads: Threads = None,
    provider_option: ProviderOption = None,
    cuda_graph: CudaGraph = False,
    cached: Cached = True,
    as_json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Recognize the character in each image: prints file, label and probability."""
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.predict import predict
    from quillrt.runtime.select import open_fitting
    from quillrt.runtime.session import SessionOptions

    options = SessionOptions(threads, cuda_graph=cuda_graph, provider_options=provider_options(provider_option))
    opened = Bundle.open(bundle.path)
    with phase_bars(quiet) as phases:
        session, entry, chosen = open_fitting(
            opened,
            backend,
            precision_of(precision),
            options,
            cache_of(cached),
            phases,
            lambda line: note(line, quiet),
        )
    with session:
        predictions = list(predict(session, _read(images), top_k, batch_size))
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "file": entry.path,
                "backend": chosen,
                "predictions": [
                    {"image": p.name, "top": [{"label": label, "probability": share} for label, share in p.top]}
                    for p in predictions
                ],
            }
        )
        return
    note(f"{entry.path} on {chosen}", quiet)
    for p in predictions:
        answers = "  ".join(f"{label} {share:.4f}" for label, share in p.top)
        sys.stdout.write(f"{p.name}  {answers}\n")


def _read(paths: list[Path]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    from quillrt.runtime.images import find_images, read_image

    for path in paths:
        if str(path) == "-":
            yield "-", read_image(sys.stdin.buffer.read(), "stdin")
            continue
        for file in find_images([path]):
            yield str(file), read_image(file)


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Show this machine, the packages installed, and which backends work here or why not; on a Jetson, its software."""
    from quillrt.cli.jetson import jetson_report, print_jetson
    from quillrt.runtime.backends import BACKENDS, why_unavailable
    from quillrt.runtime.device import describe_device
    from quillrt.runtime.versions import versions

    device = describe_device()
    packages = versions(
        *("quillrt", "numpy", "pillow", "typer", "torch", "torchvision", "safetensors", "scikit-learn", "matplotlib"),
        *(
            "onnx",
            "onnxscript",
            "onnxruntime",
            "onnxruntime-gpu",
            "openvino",
            "ai-edge-litert",
            "tensorrt",
            "tensorrt-rtx",
        ),
        *("pycuda", "cuda-python"),
    )
    backends = {name: why_unavailable(name) for name in BACKENDS}
    jetson = jetson_report()
    if as_json:
        python = ".".join(map(str, sys.version_info[:3]))
        found = {"python": python, "device": asdict(device), "packages": packages, "backends": backends}
        print_json({**found, "jetson": jetson} if jetson else found)
        return
    print_table("this machine", ("", ""), [("device", device.text())])
    print_jetson(jetson)
    print_table("packages", ("package", "version"), packages.items())
    print_table("backends", ("backend", "works here?"), [(name, why or "yes") for name, why in backends.items()])


VERBS = (run, doctor)
