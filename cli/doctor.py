"""The verb doctor: what this machine is, and what works here."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from quillrt.cli.console import print_json, print_table
from quillrt.cli.options import Debug, Json

if TYPE_CHECKING:
    from quillrt.runtime.jetson import Jetson


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Show this machine, the packages installed, and which backends work here or why not."""
    from quillrt.runtime.backends import BACKENDS, why_unavailable
    from quillrt.runtime.device import describe_device
    from quillrt.runtime.jetson import describe_jetson
    from quillrt.runtime.versions import versions

    device, jetson = describe_device(), describe_jetson()
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
    if as_json:
        python = ".".join(map(str, sys.version_info[:3]))
        board = asdict(jetson) if jetson else None
        facts = {"python": python, "device": asdict(device), "jetson": board}
        print_json({**facts, "packages": packages, "backends": backends})
        return
    print_table("this machine", ("", ""), [("device", device.text()), *_jetson_rows(jetson)])
    print_table("packages", ("package", "version"), packages.items())
    print_table("backends", ("backend", "works here?"), [(name, why or "yes") for name, why in backends.items()])


def _jetson_rows(jetson: Jetson | None) -> list[tuple[str, str]]:
    """Return what a Jetson is, what JetPack brings it, and what to do before measuring; nothing for other machines."""
    if jetson is None:
        return []
    rows = [("Jetson", f"{jetson.model} ({jetson.soc}), Jetson Linux {jetson.linux or 'of unknown version'}")]
    if brought := jetson.jetpack:
        needs = "; quillrt needs TensorRT 10.3 or later, JetPack 6.1" if brought.is_old else ""
        rows.append(
            (
                "JetPack",
                f"{brought.versions}: TensorRT {brought.tensorrt}, CUDA {brought.cuda}, Python {brought.python}{needs}",
            )
        )
    rows.append(("TensorRT", "is JetPack's: sudo apt install tensorrt python3-libnvinfer, venv --system-site-packages"))
    rows.append(
        ("power mode", f"{jetson.power_mode or 'unknown'}; before measuring: sudo nvpmodel -m N, sudo jetson_clocks")
    )
    return rows


VERBS = (doctor,)
