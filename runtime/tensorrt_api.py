"""The one place that knows the TensorRT modules: which there are, how to load one, what it can do and what it says.

TensorRT 10.3 (JetPack 6) to 11.4 and TensorRT-RTX share one Python API, but not their enumerations' numbers: flags are
always made from names, and what only some versions have is asked of the module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from .build_options import HARDWARE_COMPATIBILITY, BuildOptions
from .device import find_gpu
from .engine_fit import cannot_build, no_hardware_compatibility
from .errors import BackendUnavailable, ConfigError
from .jetson import read_jetson
from .precision import Precision

# Family: module, oldest version with all that quillrt uses.
_MODULES = {
    "tensorrt": ("tensorrt", (10, 3)),
    "tensorrt-rtx": ("tensorrt_rtx", (1, 4)),
}
FAMILIES = tuple(_MODULES)
_ERRORS_KEPT = 8
# Options of the command line that are not called as their field.
_FLAGS = {"compute_capabilities": "compute-capability"}
# Without a driver every error trails one of these, which says nothing about the graph or the engine.
_NO_DRIVER = "cudaError 35"
# Where in NVIDIA's sources a message arose: " In compileGraph at /_src/optimizer/codeGenerator.cpp:2012".
_SOURCE_LINE = re.compile(r"\s*\bIn \w+ at \S+?:\d+")


@dataclass
class Log:
    """What TensorRT said: its last errors, and the list of layers that a builder prints at the end."""

    errors: list[str] = field(default_factory=list)
    layers: str = ""

    def take(self, severity: str, text: str) -> None:
        """Keep ``text`` if it is an error or the list of layers."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors = [*self.errors, text][-_ERRORS_KEPT:]
        elif text.startswith("Layers:"):
            self.layers = text

    def clear(self) -> None:
        """Forget all, before a new build or a new engine."""
        self.errors, self.layers = [], ""

    @property
    def last_error(self) -> str:
        """The last error in one line; a missing driver's only where it is all there is."""
        telling = [text for text in self.errors if _NO_DRIVER not in text] or self.errors
        if not telling:
            return "TensorRT gave no reason"
        return " ".join(_SOURCE_LINE.sub("", telling[-1]).split())


@dataclass(frozen=True)
class TensorRT:
    """A loaded TensorRT.

    Attributes:
        family: one of ``FAMILIES``.
        module: its Python module.
        version: its version.
        log: what it said.
        logger: the ``ILogger`` that fills ``log``. TensorRT takes the first logger of a process for all that follow and
            crashes when it is collected, so there is one, which lives as long as the module.
    """

    family: str
    module: Any
    version: str
    log: Log
    logger: Any

    def __str__(self) -> str:
        return f"{self.family} {self.version}"

    @property
    def portable(self) -> bool:
        """Its engines are for a list of compute capabilities and its builder needs no GPU (TensorRT-RTX)."""
        return hasattr(self.module, "ComputeCapability")

    def check(self, options: BuildOptions, device: int = 0) -> None:
        """Raise unless this version can build with ``options``, on the GPU ``device`` where it needs one.

        Raises:
            ConfigError: it cannot; the message says why and what to leave out.
        """
        changed = options.changed
        for name, reason in self._lacks(device).items():
            if name in changed:
                flag = _FLAGS.get(name, name.replace("_", "-"))
                raise ConfigError(f"{self} cannot build with --{flag}: {reason}; leave it out")
        level = options.hardware_compatibility
        if level and not hasattr(self.module.HardwareCompatibilityLevel, HARDWARE_COMPATIBILITY[level]):
            raise ConfigError(f"{self} has no hardware compatibility {level} (since 10.9); choose ampere-plus")

    def _lacks(self, device: int) -> dict[str, str]:
        """Return by field of ``BuildOptions`` what this family cannot do, and why."""
        gpu, no_gpu = None, ""
        try:
            gpu = find_gpu(device)
        except BackendUnavailable as error:
            no_gpu = str(error)
        if not self.portable:
            lacks = {"compute_capabilities": "it builds for the GPU it runs on; only tensorrt-rtx takes them"}
            if gpu and (reason := no_hardware_compatibility(gpu)):
                lacks["hardware_compatibility"] = reason
            if gpu and (reason := cannot_build(Precision.TF32, gpu)):
                lacks["tf32"] = reason
            return lacks
        lacks = {
            "hardware_compatibility": "its engines are for a list of GPUs as they are: give --compute-capability",
            "version_compatible": "its engines run on the version that built them alone",
            "dla_core": "it runs on GPUs alone",
        }
        if gpu is None:
            needs = f"that needs an NVIDIA GPU where it is built, and there is {no_gpu}"
            lacks |= {"refit": needs, "strip": needs}
        return lacks

    @property
    def times_kernels(self) -> bool:
        """Its builder times kernels, so that a timing cache saves time; TensorRT-RTX compiles them on the device."""
        return not self.portable

    @property
    def network_flags(self) -> int:
        """Flags of ``create_network``: the types in the graph are the types in the engine."""
        return 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def create(self, kind: str) -> Any:
        """Return a new ``Builder`` or ``Runtime``.

        Raises:
            BackendUnavailable: TensorRT refuses, most often for want of a GPU.
        """
        try:
            return getattr(self.module, kind)(self.logger)
        except TypeError as error:  # pybind11's "factory function returned nullptr"
            raise BackendUnavailable(f"{self} cannot start its {kind.lower()}: {self.log.last_error}") from error


def supported(family: str, version: str) -> bool:
    """Tell whether this version of ``family`` has all that quillrt uses."""
    return tuple(int(part) for part in version.split(".")[:2]) >= _MODULES[family][1]


@cache
def load(family: str) -> TensorRT:
    """Return the TensorRT called ``family``.

    Raises:
        ConfigError: no family has this name.
        BackendUnavailable: its package is missing, too old, or its shared libraries cannot be loaded.
    """
    if family not in _MODULES:
        raise ConfigError(f"expected a TensorRT family out of {', '.join(FAMILIES)}, found {family!r}")
    name, oldest = _MODULES[family]
    install = f"pip install 'quillrt[{family}]'"
    if family == "tensorrt" and read_jetson() is not None:  # pip's would stand before JetPack's and fit no board
        install = "JetPack 6.1 and later bring it, for the system's Python: see docs/jetson.md"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise BackendUnavailable(f"{family} cannot be loaded: {error}; {install}") from error
        raise BackendUnavailable(f"{family} needs the package {family}: {install}") from error
    except (ImportError, OSError) as error:  # libnvinfer or libcuda is missing or of another version
        raise BackendUnavailable(f"{family} cannot be loaded: {' '.join(str(error).split())}") from error
    version = str(module.__version__)
    if not supported(family, version):
        wanted = ".".join(map(str, oldest))
        raise BackendUnavailable(f"expected {family} {wanted} or later, found {version}: {install}")
    log = Log()
    return TensorRT(family, module, version, log, _logger(module, log))


def _logger(module: Any, log: Log) -> Any:
    """Return an ``ILogger`` of ``module`` that fills ``log``."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)  # pybind11 wants its own constructor called

        def log(self, severity: Any, msg: str) -> None:
            log.take(severity.name, msg)

    return Logger()
