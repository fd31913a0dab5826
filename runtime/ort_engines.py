"""What onnxruntime's TensorRT provider keeps between sessions, and the batches its engines are built for."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from .build_options import Profile
from .errors import BackendUnavailable
from .ort import load
from .ort_options import Tuning
from .spec import TensorSpec
from .tensorrt_api import load as load_family

_FOLDER = "onnxruntime-tensorrt"


class EngineFolder:
    """The folder with the engines of one model.

    The provider names its files by the names in the graph, not by the weights (onnxruntime's issues 6455 and 32254):
    a model that was trained again would get the engine of the old one. So each model, under each set of options, has
    a folder of its own; the timings of kernels are every model's.

    Args:
        cache: the folder above; ``None`` keeps nothing.
        model: the graph.
        tuning: how its engine is built.
        device: index of the GPU.
    """

    def __init__(self, cache: Path | None, model: bytes, tuning: Tuning, device: int) -> None:
        asked = (f"{key}={value}" for key, value in sorted(tuning.provider.items()))
        ingredients = (load().__version__, str(device), str(tuning.batches), *asked)
        digest = hashlib.sha256(model + "\0".join(ingredients).encode()).hexdigest()
        self._folder = None if cache is None else cache / _FOLDER / digest

    def provider_options(self) -> dict[str, str]:
        """Return the provider's options; none, and nothing is kept, where there is no folder or it cannot be made."""
        if self._folder is None:
            return {}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return {}
        return {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(self._folder),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(self._folder.parent),
        }

    def files(self) -> list[Path]:
        """Return what is kept of the model."""
        return [path for path in self._folder.glob("*") if path.is_file()] if self._folder else []

    def drop(self) -> None:
        """Delete what is kept of the model."""
        for file in self.files():
            file.unlink(missing_ok=True)


def profile_shapes(images: TensorSpec, batches: Profile) -> dict[str, str]:
    """Return the provider's options for images of ``batches``; none for a model of one batch size."""
    if images.shape[0] is not None:
        return {}
    rest = "x".join(str(size) for size in images.shape[1:])
    sizes = {"min": batches.smallest[0], "opt": batches.best[0], "max": batches.largest[0]}
    return {f"trt_profile_{which}_shapes": f"{images.name}:{size}x{rest}" for which, size in sizes.items()}


def load_tensorrt() -> None:
    """Load TensorRT's libraries from pip's package where it is installed; elsewhere the loader's path has them.

    The provider has no option against TF32, which would be the type of FP32 products on Ampere and later; NVIDIA's
    libraries read this variable when they are first used. Who sets it to 1 gets TF32.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    with suppress(BackendUnavailable):
        load_family("tensorrt")
