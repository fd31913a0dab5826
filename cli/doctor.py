"""The verb doctor: what this machine is, and what works here."""

from __future__ import annotations

import sys
from dataclasses import asdict

from quillrt.cli.console import print_json, print_table
from quillrt.cli.options import Debug, Json


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Show this machine, the packages installed, and which backends work here or why not."""
    from quillrt.cli.jetson import jetson_report, print_jetson
    from quillrt.runtime.backends import BACKENDS, why_unavailable
    from quillrt.runtime.device import describe_device
    from quillrt.runtime.versions import versions

    device, jetson = describe_device(), jetson_report()
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
        found = {"python": python, "device": asdict(device), "packages": packages, "backends": backends}
        print_json({**found, "jetson": jetson} if jetson else found)
        return
    print_table("this machine", ("", ""), [("device", device.text())])
    print_jetson(jetson)
    print_table("packages", ("package", "version"), packages.items())
    print_table("backends", ("backend", "works here?"), [(name, why or "yes") for name, why in backends.items()])
