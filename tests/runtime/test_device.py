"""The device query, also against a driver library made here with known GPUs."""

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest

from quillrt.runtime import device
from quillrt.runtime.device import Device, Gpu, describe_device, processor
from quillrt.runtime.errors import BackendUnavailable

_DRIVER = r"""
#include <string.h>
#include <stddef.h>
static int refuse(void) { extern char *getenv(const char *); char *e = getenv("REFUSE"); return e ? 100 : 0; }
int cuInit(unsigned flags) { return refuse(); }
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *handle, int index) { *handle = 70 + index; return 0; }
int cuDeviceGetName(char *name, int size, int handle) {
  strncpy(name, handle == 70 ? "Orin" : "H100 80GB", size);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int handle) { *bytes = handle == 70 ? 8ul << 30 : 80ul << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int handle) {
  if (attribute == 75) *value = handle == 70 ? 8 : 9;
  else if (attribute == 76) *value = handle == 70 ? 7 : 0;
  else return 1;
  return 0;
}
int cuGetErrorName(int error, const char **name) { *name = error == 100 ? "CUDA_ERROR_NO_DEVICE" : "OTHER"; return 0; }
"""
_ASK = """
import json
from dataclasses import asdict
from quillrt.runtime.device import describe_device
print(json.dumps(asdict(describe_device())))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Return a folder with a ``libcuda.so.1`` that shows two GPUs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to make a driver library")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(_DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", "libcuda.so.1", "cuda.c"], cwd=folder, check=True)
    return folder


def _ask(driver, **environment):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), **environment}
    asked = subprocess.run([sys.executable, "-c", _ASK], env=environment, check=True, capture_output=True, text=True)
    return json.loads(asked.stdout)


def test_gpus_are_what_the_driver_says(driver):
    device = _ask(driver)
    assert device["gpus"] == [
        {"name": "Orin", "compute_capability": "8.7", "driver": "12.6", "memory_bytes": 8 * 2**30},
        {"name": "H100 80GB", "compute_capability": "9.0", "driver": "12.6", "memory_bytes": 80 * 2**30},
    ]
    assert device["gpu_reason"] is None


def test_a_gpu_is_found_by_its_index(monkeypatch):
    gpus = (Gpu("Orin", "8.7", "12.6", 8 << 30), Gpu("H100", "9.0", "12.6", 80 << 30))
    monkeypatch.setattr(device, "find_gpus", lambda: gpus)
    assert [device.find_gpu(index) for index in (0, 1)] == [*gpus]
    here = Device("Xeon", "x86_64", 2, (), gpus, None)
    assert [here.gpu(index) for index in (0, 1, 2, -1)] == [*gpus, None, None]
    for index in (2, -1):
        with pytest.raises(BackendUnavailable, match=f"expected an index of 0 to 1, found {index}; give another --dev"):
            device.find_gpu(index)


def test_a_driver_without_gpu_says_so(driver):
    device = _ask(driver, REFUSE="1")
    assert device["gpus"] == []
    assert device["gpu_reason"] == "no NVIDIA GPU (cuInit says CUDA_ERROR_NO_DEVICE)"


def test_this_machine_is_described():
    device = describe_device()
    assert device.architecture == platform.machine()
    assert device.cpu
    assert device.cores >= 1
    assert bool(device.gpus) is (device.gpu_reason is None)


def test_a_board_has_a_better_name_than_its_processor(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nFeatures\t: fp asimd asimddp\n"
    )
    assert processor(tmp_path) == ("ARMv8 Processor rev 1 (v8l)", ("asimd", "asimddp"))
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert processor(tmp_path) == ("NVIDIA Jetson Orin Nano Developer Kit", ("asimd", "asimddp"))


def test_text_is_one_line_for_people():
    gpu = Gpu("Orin", "8.7", "12.6", 8 * 2**30)
    board = Device("Jetson Orin Nano", "aarch64", 6, ("asimddp",), (gpu,), None)
    assert board.text() == "Jetson Orin Nano (aarch64), 6 cores, asimddp, Orin (8.7, CUDA 12.6)"
    bare = Device("Xeon", "x86_64", 2, (), (), "no NVIDIA driver (libcuda.so.1: no such file)")
    assert bare.text() == "Xeon (x86_64), 2 cores, no NVIDIA driver (libcuda.so.1: no such file)"
