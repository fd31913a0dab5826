"""PyTorch programs (``.pt2``): exported by torch.export, or compiled to native code by AOTInductor. Both are code.

``torch.export.load`` unpickles what the archive calls pickled (``torch.load(..., weights_only=False)`` and
``pickle.loads`` in ``torch/export/pt2_archive/_package.py``) and evaluates its symbolic sizes (``sympy.sympify`` in
``torch/_export/serde/serialize.py``); an AOTInductor package is a shared library. Whoever made the file can so run what
he likes here: ``BY_NAME`` in ``backends.py`` keeps all from opening them unless their backend is asked for by name.
"""

from __future__ import annotations

import platform
import tempfile
import zipfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import processor
from .errors import BackendUnavailable, BundleError
from .manifest import Entry
from .session import CLOSED, Session, SessionOptions
from .spec import ModelSpec


class ExportedSession(Session):
    """A program that torch.export saved, run by PyTorch operator by operator on the CPU."""

    name = "pytorch"

    def __init__(self, model: bytes, spec: ModelSpec, options: SessionOptions = SessionOptions()) -> None:
        if reason := self.unavailable():
            raise BackendUnavailable(reason)
        import torch

        _check_archive(model, self.name)
        try:
            self._network: Any = self._load(model)
        except Exception as error:  # unpickling and linking raise what they like
            self.close()
            raise BundleError(f"{self.name} cannot load the model: {_line(error)}") from error
        self._threads_before = torch.get_num_threads()  # torch has one count for the whole process
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._spec = spec

    @classmethod
    def unavailable(cls, device: int = 0) -> str | None:
        """Return why this backend cannot work here, or ``None``."""
        if find_spec("torch") is None:
            return f"backend {cls.name} needs the package torch: pip install 'quillrt[pytorch]'"
        import torch  # noqa: F401 - it may be there and broken, which raises ImportError

        return None

    def _load(self, model: bytes) -> Any:
        import torch

        return torch.export.load(BytesIO(model)).module()

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        if self._network is None:
            raise BackendUnavailable(CLOSED)
        self._spec.input.check(batch)
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = self._network(torch.from_numpy(np.ascontiguousarray(batch))).numpy()
        except Exception as error:  # torch's have no common base but this
            raise BundleError(f"{self.name} cannot run the model: {_line(error)}") from error
        return logits

    def close(self) -> None:
        self._network = None
        if hasattr(self, "_threads_before"):
            import torch

            torch.set_num_threads(self._threads_before)
            del self._threads_before


class CompiledSession(ExportedSession):
    """An AOTInductor package: native code, built by a C++ compiler for one CPU and one version of torch."""

    name = "pytorch-aot"

    def _load(self, model: bytes) -> Any:
        from torch._inductor import aoti_load_package

        self._folder = tempfile.TemporaryDirectory(prefix="quillrt-")  # torch reads packages from files only
        path = Path(self._folder.name, "model.pt2")
        path.write_bytes(model)
        return aoti_load_package(str(path))

    def close(self) -> None:
        super().close()
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def built_here() -> dict[str, Any]:
    """Return what native code that torch builds on this machine fits; Inductor compiles with ``-march=native``."""
    import torch

    return {
        "torch": str(torch.__version__),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": list(processor()[1]),
    }


def misfit(entry: Entry) -> str | None:
    """Return in one line why an AOTInductor package cannot run here, or ``None`` if nothing is known against it."""
    here, built = built_here(), entry.built_for
    for key, what in (("torch", "torch"), ("machine", "a machine"), ("cpu_capability", "CPU capability")):
        if (wanted := built.get(key)) != here[key]:
            return f"{entry.path} is built for {what} {wanted}, here is {here[key]}; compile it on this machine"
    if missing := sorted(set(built.get("instructions", ())) - set(here["instructions"])):
        return f"{entry.path} is built for a CPU with {', '.join(missing)}, this one has none; compile it here"
    return None


def _check_archive(model: bytes, name: str) -> None:
    """Raise unless ``model`` is a whole zip; torch would log its attempts at what is none.

    Raises:
        BundleError: it is none, or a part of it is damaged.
    """
    try:
        with zipfile.ZipFile(BytesIO(model)) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise BundleError(f"{name} cannot load the model: expected a .pt2 archive, but {_line(error)}") from error
    if damaged:
        raise BundleError(f"{name} cannot load the model: {damaged} in its archive is damaged; make the bundle again")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
