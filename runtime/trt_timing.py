"""TensorRT's timing cache in a file that builds share: what one has timed, the next need not time again.

The file holds what TensorRT serializes and nothing else, so that trtexec's ``--timingCacheFile`` takes it, too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .device import Gpu
from .errors import ConfigError
from .files import write_bytes
from .tensorrt_api import TensorRT


def default_path(folder: Path, tensorrt: TensorRT, gpu: Gpu) -> Path | None:
    """Return the file below ``folder`` in which builds on this GPU by this version share their timings.

    Timings hold for one kind of GPU, one driver and one version of TensorRT. Where the file cannot be locked, read or
    written, there is none: builds then time all their kernels.
    """
    key = "\0".join((str(tensorrt), gpu.name, gpu.compute_capability, gpu.driver))
    path = folder / "timing" / f"{tensorrt.family}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.cache"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            _read(path)
    except OSError:
        return None
    return path if os.access(path.parent, os.W_OK) else None


class TimingCache:
    """The timing cache of one build.

    Args:
        path: the file; it need not be there yet.
        tensorrt: whose timings.
        config: the build's ``IBuilderConfig``, which is told of the timings known.

    Raises:
        ConfigError: the file cannot be read or written.
    """

    def __init__(self, path: Path, tensorrt: TensorRT, config: Any) -> None:
        self._path, self._config = path, config
        if not tensorrt.times_kernels:
            raise ConfigError(
                f"{tensorrt} has no use for a timing cache: its kernels are compiled on the device; "
                "leave --timing-cache out"
            )
        try:
            with _locked(path):  # tells now, rather than after the build, whether it can be written
                known = _read(path)
        except OSError as error:
            raise ConfigError(
                f"expected a timing cache that can be read and written at {path}, but {error.strerror or error}; "
                "give another --timing-cache"
            ) from error
        # A damaged file, or one of another version: TensorRT refuses it, and this build begins a new one.
        found = config.create_timing_cache(known) if known else None
        if found is None or not config.set_timing_cache(found, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def keep(self) -> None:
        """Add what this build timed to what other builds have written in the meantime.

        What can no longer be written, as on a disk that has become full, is not kept: the engine is worth more.
        """
        ours = self._config.get_timing_cache()
        with suppress(OSError), _locked(self._path):
            known = _read(self._path)
            others = self._config.create_timing_cache(known) if known else None
            if others is not None:
                ours.combine(others, False)
            write_bytes(self._path, bytes(ours.serialize()))


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from the file; the lock lies beside it, for writing replaces the file itself."""
    with path.with_name(path.name + ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
