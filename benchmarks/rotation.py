"""The images of a benchmark, in files that all contestants map: those that answers are compared on, and a rotation.

Queries take their images in turn out of the rotation, which is larger than the last cache: each comes from memory, as a
new image does. No image is in it twice: past the real ones it holds copies, each a little dimmer, so that a backend
that keeps answers by their input has none to give.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from .results import Rotation

_PAST_THE_CACHE = 1.05  # of its size
_LEAST_BYTES = 16 * 2**20  # where the cache is small or not known
_MOST_OF_MEMORY = 0.125  # of what is free; files in memory count once, whoever maps them
_DIMMER = 2.0**-14  # of the brightness, for each copy: more than float32 rounds away, far less than a grey level
_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Files:
    """Where the images lie, each float32 (N, C, H, W) in numpy's format.

    Attributes:
        check: the real images.
        rotation: those that queries go through.
    """

    check: Path
    rotation: Path


def last_cache_bytes(cpus: Path = _CPUS) -> int | None:
    """Return the size of the largest cache of processor 0, as sysfs has it, or ``None``."""
    sizes = []
    for path in cpus.glob("cpu0/cache/index*/size"):
        text = path.read_text(encoding="ascii", errors="replace").strip()
        number, unit = text.rstrip("KMG"), text[-1:]
        if number.isdigit():
            sizes.append(int(number) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(unit, 1))
    return max(sizes, default=None)


def free_memory_bytes() -> int:
    """Return how much memory could be used, as the kernel estimates it."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def plan(images: NDArray[np.float32], source: str) -> Rotation:
    """Return how many images the rotation of ``images`` float32 (N, C, H, W) has, and what they take."""
    each = images[:1].nbytes
    l3 = last_cache_bytes()
    wanted = max(_LEAST_BYTES, int(_PAST_THE_CACHE * (l3 or 0)), images.nbytes)
    count = max(len(images), int(min(wanted, _MOST_OF_MEMORY * free_memory_bytes()) // each))
    return Rotation(source, count, len(images), count * each, l3)


@contextmanager
def laid_out(images: NDArray[np.float32], count: int) -> Iterator[Files]:
    """Give the files of ``images`` and of a rotation of ``count`` images made of them; they are removed afterwards.

    Raises:
        OSError: the temporary folder is full or cannot be written.
    """
    with TemporaryDirectory(prefix="quillrt-bench-") as folder:
        files = Files(Path(folder) / "check.npy", Path(folder) / "rotation.npy")
        np.save(files.check, images)
        shape = (count, *images.shape[1:])
        turning = np.lib.format.open_memmap(files.rotation, "w+", np.float32, shape)
        for copy, start in enumerate(range(0, count, len(images)), 1):  # the first copy differs from the check, too
            part = images[: count - start]
            np.multiply(part, np.float32(1 - copy * _DIMMER), out=turning[start : start + len(part)])
        turning.flush()
        del turning
        yield files


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return the numbers of up to ``most`` of ``count`` images, evenly spread: data sets begin with the clean ones."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def mapped(path: Path) -> NDArray[np.float32]:
    """Return a file's images without copying them, every page of them there before the first query.

    They may be written to, as torch wants it, and such writes stay in this process.
    """
    images: NDArray[np.float32] = np.load(path, mmap_mode="c").view(np.ndarray)  # memmap's own slices take their time
    images.sum()
    return images
