"""Boards as their files tell, in the forms that boards of each kind have been seen to have them."""

import pytest

from quillrt.runtime.jetson import read_jetson

TARGET = "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, "
    "DATE: Thu Sep 18 22:54:44 UTC 2025\n" + TARGET,
    "etc/nvpmodel.conf": "< PARAM TYPE=FILE NAME=GPU_PWR_CNTL_EN >\nGPU /sys/x\n\n< POWER_MODEL ID=0 NAME=15W >\n"
    "CPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    "# < POWER_MODEL ID=9 NAME=MAXN >\n< POWER_MODEL ID=3 NAME=7W >\n< PM_CONFIG DEFAULT=0 >\n",
    "var/lib/nvpmodel/status": "pmode:0000",
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5.1-6ubuntu1.1\n\n"
    "Package: nvidia-jetpack\nStatus: install ok installed\nMaintainer: NVIDIA Corporation\nVersion: 6.2.1+b38\n"
    "Description: NVIDIA Jetpack Meta Package\n more: of it\n\n"
    "Package: python3-libnvinfer\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n"
    "Package: nvidia-l4t-core\nStatus: install ok installed\nVersion: 36.4.7-20250918154033\n",
}
XAVIER_NX = {
    "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3509-0000+p3668-0000\0nvidia,tegra194\0",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, "
    "DATE: Tue Aug  1 19:57:35 UTC 2023\n",
}
THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.2, GCID: 42205042, BOARD: generic, EABI: aarch64, "
    "DATE: Thu Sep 25 22:47:11 UTC 2025\n" + TARGET,
}
RASPBERRY_PI = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b2\n",
}


@pytest.fixture
def board(tmp_path):
    """Lay out files below an empty root, and read the board."""

    def board(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return read_jetson(tmp_path)

    return board


def test_orin_nano_on_jetpack_6(board):
    found = board(ORIN_NANO)
    assert found.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert found.compatible == ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234")
    assert (found.soc, found.compute_capability, found.dla_cores) == ("tegra234", "8.7", 0)
    assert (found.l4t, found.jetpack, found.system_tensorrt) == ("36.4.7", "6.2.1", "10.3.0.30")
    assert found.power_modes == {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}
    assert (found.power_mode, found.fastest_mode) == (0, 2)


def test_xavier_nx_on_jetpack_5_whose_packages_and_power_modes_are_not_told(board):
    found = board(XAVIER_NX)
    assert (found.soc, found.compute_capability, found.dla_cores) == ("tegra194", "7.2", 2)
    assert (found.l4t, found.jetpack, found.system_tensorrt) == ("35.4.1", "5.1.2", None)
    assert (found.power_mode, found.power_modes, found.fastest_mode) == (None, {}, None)


def test_thor_on_jetpack_7(board):
    found = board(THOR)
    assert (found.soc, found.compute_capability, found.dla_cores) == ("tegra264", "11.0", 0)
    assert (found.l4t, found.jetpack) == ("38.2.2", "7.0")


@pytest.mark.parametrize(
    ("module", "cores"),
    [("p3737-0000+p3701-0005", 2), ("p3768-0000+p3767-0000", 2), ("p3768-0000+p3767-0001", 1), ("maker,board", None)],
)
def test_dla_cores_are_the_modules(board, module, cores):
    assert board({"proc/device-tree/compatible": f"nvidia,{module}\0nvidia,tegra234\0"}).dla_cores == cores


@pytest.mark.parametrize("release", ["", "# R (release), REVISION: , GCID: 0\n", "36.4.3\n", "\0\ufffd"])
def test_an_odd_release_file_leaves_it_to_the_packages(board, release):
    found = board({**ORIN_NANO, "etc/nv_tegra_release": release})
    assert (found.soc, found.l4t, found.jetpack) == ("tegra234", "36.4.7", "6.2.1")
    packages = "Package: nvidia-l4t-core\nStatus: deinstall ok config-files\nVersion: 36.4.3-20250107174145\n"
    found = board({"var/lib/dpkg/status": packages, "var/lib/nvpmodel/status": "pmode", "etc/nvpmodel.conf": "<>"})
    assert (found.l4t, found.jetpack, found.power_mode, found.power_modes) == (None, None, None, {})


def test_a_release_of_two_numbers_and_one_that_is_not_known(board):
    orin = {"proc/device-tree/compatible": "nvidia,tegra234\0"}
    found = board({**orin, "etc/nv_tegra_release": "# R36 (release), REVISION: 3, GCID: 1\n"})
    assert (found.l4t, found.jetpack) == ("36.3.0", "6.0")
    found = board({**orin, "etc/nv_tegra_release": "# R40 (release), REVISION: 1.0, GCID: 1\n"})
    assert (found.l4t, found.jetpack) == ("40.1.0", None)


def test_a_container_with_the_release_file_alone_is_on_a_jetson(board):
    found = board({"etc/nv_tegra_release": THOR["etc/nv_tegra_release"]})
    assert (found.model, found.soc, found.compute_capability, found.l4t) == (None, None, None, "38.2.2")


@pytest.mark.parametrize("files", [RASPBERRY_PI, {}], ids=["Raspberry Pi", "x86"])
def test_other_machines_are_none(board, files):
    assert board(files) is None
