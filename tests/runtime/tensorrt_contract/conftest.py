"""The stage of the contract: quillrt's TensorRT code, doubles of the real bindings' classes, a stand-in for the GPU.

The bindings are TensorRT-RTX's, or full TensorRT's in a process where ``TENSORRT_CONTRACT`` names the release.
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tensorrt_contract.double import double_of

from quillrt.runtime import cuda, device, tensorrt_api, trt, trt_build, trt_refit  # noqa: F401 - `perform` looks them over

GPU = device.Gpu("A10", "8.6", "13.0", 24 << 30)


@dataclass
class Stage:
    """Where quillrt's code meets one TensorRT.

    Attributes:
        family: which of ``tensorrt_api.FAMILIES`` it is.
        real: its real bindings.
        folder: an empty one.
    """

    family: str
    real: Any
    monkeypatch: Any
    stand_ins: Any
    folder: Path

    def perform(self, answers: dict[str, Any]) -> Any:
        """Put doubles with these preset answers in TensorRT's place, and return the double of the module."""
        double, gpu = double_of(self.real, answers), self.stand_ins.cuda()
        self.monkeypatch.setitem(sys.modules, self.family.replace("-", "_"), double)
        self._replace(tensorrt_api, "load", cache(tensorrt_api.load.__wrapped__))
        self._replace(cuda, "open_cuda", lambda index: gpu)
        self._replace(device, "find_gpus", lambda: (GPU,))
        return double

    def _replace(self, home: Any, name: str, new: Any) -> None:
        """Put ``new`` in the place of the function ``name`` of ``home`` wherever the runtime imported it."""
        old = getattr(home, name)
        for module in [module for name, module in sys.modules.items() if name.startswith("quillrt.runtime.")]:
            if getattr(module, name, None) is old:
                self.monkeypatch.setattr(module, name, new)


@pytest.fixture
def stage(monkeypatch, stand_ins, tmp_path):
    release = os.environ.get("TENSORRT_CONTRACT")
    if release is None:
        return Stage("tensorrt-rtx", pytest.importorskip("tensorrt_rtx"), monkeypatch, stand_ins, tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt_libs", None)  # the real libraries, which the bindings would load
    real = import_module("tensorrt_bindings")
    assert real.__version__.startswith(f"{release}.")
    return Stage("tensorrt", real, monkeypatch, stand_ins, tmp_path)
