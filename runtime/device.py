"""What this machine is: its processor, the instructions int8 profits from, and its NVIDIA GPUs as the driver tells.

Asked of ``/proc`` and of ``libcuda`` itself, so that it works on servers and on Jetson, without nvidia-smi.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BackendUnavailable

# Names as /proc/cpuinfo spells them, x86 first, then Arm.
_INT8_INSTRUCTIONS = (
    ("avx2", "avx512bw", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"),
    ("asimd", "asimddp", "i8mm"),
)
# CUdevice_attribute in cuda.h.
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        name: product name.
        compute_capability: such as ``8.7``.
        driver: newest CUDA version its driver speaks, such as ``13.0``.
        memory_bytes: its memory; on Jetson the memory it shares with the processor.
    """

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int


@dataclass(frozen=True)
class Device:
    """One machine.

    Attributes:
        cpu: the board's model where a device tree tells it (Jetson), or else the processor's.
        architecture: such as ``x86_64`` or ``aarch64``.
        cores: logical processors this process may use.
        instructions: instruction sets that matter for int8, as ``/proc/cpuinfo`` names them.
        gpus: NVIDIA GPUs, by index.
        gpu_reason: why there are none; ``None`` where there are some.
    """

    cpu: str
    architecture: str
    cores: int
    instructions: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    gpu_reason: str | None

    def text(self) -> str:
        """Return the machine in one line, for people."""
        gpus = [f"{gpu.name} ({gpu.compute_capability}, CUDA {gpu.driver})" for gpu in self.gpus]
        return ", ".join(
            [f"{self.cpu} ({self.architecture})", f"{self.cores} cores", *self.instructions]
            + (gpus or [str(self.gpu_reason)])
        )

    def gpu(self, index: int) -> Gpu | None:
        """Return the GPU with this index; ``None`` where there is none."""
        return self.gpus[index] if 0 <= index < len(self.gpus) else None


def describe_device() -> Device:
    """Return what this machine is; takes milliseconds, or as long as the driver needs to wake a GPU."""
    cpu, instructions = processor()
    try:
        gpus, reason = find_gpus(), None
    except BackendUnavailable as error:
        gpus, reason = (), str(error)
    return Device(cpu, platform.machine(), cores(), instructions, gpus, reason)


def find_gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs this process may use, at least one.

    Raises:
        BackendUnavailable: there is no driver, no GPU, or ``CUDA_VISIBLE_DEVICES`` hides all.
    """
    driver = _Driver()
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.call("cuDriverGetVersion", ctypes.byref(version))
    driver.call("cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise BackendUnavailable("no NVIDIA GPU (the driver shows none)")
    # 13020 is CUDA 13.2.
    text = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(driver.gpu(index, text) for index in range(count.value))


def find_gpu(index: int) -> Gpu:
    """Return the NVIDIA GPU with this index.

    Raises:
        BackendUnavailable: as ``find_gpus``, or there are not so many.
    """
    gpus = find_gpus()
    if not 0 <= index < len(gpus):
        raise BackendUnavailable(f"expected an index of 0 to {len(gpus) - 1}, found {index}; give another --device")
    return gpus[index]


class _Driver:
    """The CUDA driver library, initialized."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            reason = "libcuda.so.1 not found" if "No such file" in str(error) else str(error)
            raise BackendUnavailable(f"no NVIDIA driver ({reason})") from error
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            reason = text.value.decode() if text.value else f"error {status}"
            raise BackendUnavailable(f"no NVIDIA GPU ({name} says {reason})")

    def gpu(self, index: int, driver: str) -> Gpu:
        handle, memory = ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGet", ctypes.byref(handle), index)
        self.call("cuDeviceGetName", name, len(name), handle)
        self.call("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
        major = self._attribute(_COMPUTE_CAPABILITY_MAJOR, handle)
        minor = self._attribute(_COMPUTE_CAPABILITY_MINOR, handle)
        return Gpu(name.value.decode(errors="replace"), f"{major}.{minor}", driver, memory.value)

    def _attribute(self, attribute: int, handle: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        return value.value


def processor(proc: Path = Path("/proc")) -> tuple[str, tuple[str, ...]]:
    """Return the board's or processor's model and the processor's int8 instruction sets."""
    fields: dict[str, str] = {}
    for line in _read(proc / "cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    board = _read(proc / "device-tree" / "model").strip("\0\n ")
    # Jetson's kernels call the processor "ARMv8 Processor rev 1 (v8l)", which names nothing; x86 has no device tree.
    model = board or fields.get("model name") or platform.processor() or platform.machine()
    have = set(fields.get("flags", fields.get("Features", "")).split())
    return model, tuple(name for family in _INT8_INSTRUCTIONS for name in family if name in have)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or no device tree
        return ""


def cores() -> int:
    """Return how many logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
