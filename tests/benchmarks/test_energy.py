import os
import time

import pytest

from quillrt.benchmarks import energy
from quillrt.benchmarks.energy import find_meter, gpu_watts, tegra_watts


@pytest.fixture
def powercap(tmp_path):
    """Two packages, with a zone of cores inside one, as the kernel lays them out."""

    def package(name, joules, largest=1000):
        folder = tmp_path / "powercap" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "energy_uj").write_text(f"{joules * 1_000_000}\n")
        (folder / "max_energy_range_uj").write_text(f"{largest * 1_000_000}\n")

    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        package(name, 10)
    return package


def test_rapl_adds_the_packages_and_survives_an_overflow(powercap, tmp_path):
    meter, reason = find_meter(on_gpu=False, powercap=tmp_path / "powercap")
    assert (meter.name, reason) == ("RAPL, 2 packages", "")
    meter.start()
    powercap("intel-rapl:0", 15)
    powercap("intel-rapl:1", 2)  # from 10 over 1,000 to 2
    powercap("intel-rapl:0:0", 500)
    assert meter.stop() == pytest.approx(5 + 992)


def test_where_there_are_no_counters_the_reason_is_said(tmp_path):
    meter, reason = find_meter(on_gpu=False, powercap=tmp_path)
    assert meter is None
    assert "no RAPL" in reason


def test_counters_that_cannot_be_read_are_a_reason(powercap, tmp_path):
    counter = tmp_path / "powercap" / "intel-rapl:0" / "energy_uj"
    counter.unlink()
    counter.mkdir()  # which not even root can read
    assert "root alone" in find_meter(on_gpu=False, powercap=tmp_path / "powercap")[1]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program on the path, and nothing else that could measure."""

    def program(name, *lines):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return program


@pytest.mark.parametrize(
    ("name", "line", "on_gpu"),
    [("nvidia-smi", "250.00", True), ("tegrastats", "RAM 1/2MB VDD_IN 250000mW/4000mW VDD_CPU_GPU_CV 9mW/9mW", False)],
)
def test_a_printed_power_times_the_stretch_is_energy(program, name, line, on_gpu):
    program(name, *[f"echo '{line}'"] * 3, "exec sleep 60")
    meter, _ = find_meter(on_gpu=on_gpu)
    begin = time.perf_counter()
    meter.start()
    started = time.perf_counter()
    while os.fstat(meter._output.fileno()).st_size == 0:
        time.sleep(0.01)
    least = time.perf_counter() - started
    joules = meter.stop()
    assert 250 * least <= joules <= 250 * (time.perf_counter() - begin)
    assert meter._process.poll() is not None


def test_the_rows_gpu_is_asked(program):
    """The program prints as many watts as the GPU's index."""
    program("nvidia-smi", 'for each in "$@"; do case $each in --id=*) echo ${each#--id=};; esac; done', "exec sleep 60")
    meter, _ = find_meter(on_gpu=True, device=3)
    meter.start()
    while os.fstat(meter._output.fileno()).st_size == 0:
        time.sleep(0.01)
    assert meter.name == "nvidia-smi, GPU 3"
    assert 0 < meter.stop() < 3 * 10


def test_a_meter_that_said_nothing_tells_nothing(program):
    program("nvidia-smi", "exec sleep 60")
    meter, _ = find_meter(on_gpu=True)
    meter.start()
    assert meter.stop() is None


def test_a_gpu_without_nvidia_smi_has_its_reason(monkeypatch):
    monkeypatch.setattr(energy.shutil, "which", lambda name: None)
    assert find_meter(on_gpu=True) == (None, "nvidia-smi is not here")


def test_powers_are_read_as_the_programs_print_them():
    assert gpu_watts("61.12\n[N/A]\n59.9\n") == [61.12, 59.9]
    # Xavier with JetPack 4 leaves the unit out.
    assert tegra_watts("... VDD_IN 4940mW/4950mW VDD_CPU_GPU_CV 800mW/9mW\nGPU 0/0 POM_5V_IN 2500/2480\n") == [
        4.94,
        2.5,
    ]
