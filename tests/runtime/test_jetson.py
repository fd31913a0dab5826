"""Trees of files as boards have them: first lines of /etc/nv_tegra_release are public captures of real ones."""

import pytest

from quillrt.runtime.jetson import describe_jetson

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
}


@pytest.fixture
def machine(tmp_path):
    def machine(**changed):
        files = {**ORIN, **{key.replace("__", "/"): text for key, text in changed.items()}}
        for name, text in files.items():
            if text is not None:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        return describe_jetson(tmp_path)

    return machine


def test_an_orin_nano_on_jetpack_6(machine):
    found = machine()
    assert found.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (found.soc, found.linux, found.power_mode) == ("Orin", "36.4.3", "2 (MAXN_SUPER)")
    assert (found.jetpack.tensorrt, found.jetpack.python, found.jetpack.is_old) == ("10.3", "3.10", False)


@pytest.mark.parametrize(
    ("release", "linux", "tensorrt", "is_old"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64", "35.4.1", "8.5", True),
        ("# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic, EABI: aarch64", "36.3.0", "8.6", True),
        ("# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64", "36.4.7", "10.3", False),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64", "38.2.0", "10.13", False),
    ],
)
def test_what_each_release_brings(machine, release, linux, tensorrt, is_old):
    found = machine(etc__nv_tegra_release=release)
    assert (found.linux, found.jetpack.tensorrt, found.jetpack.is_old) == (linux, tensorrt, is_old)


@pytest.mark.parametrize(("chip", "name"), [("tegra194", "Xavier"), ("tegra264", "Thor"), ("tegra999", "tegra999")])
def test_the_chip_names_the_family(machine, chip, name):
    tree = {"proc__device-tree__compatible": f"nvidia,p0\0nvidia,{chip}\0", "etc__nv_tegra_release": None}
    found = machine(**tree)
    assert (found.soc, found.linux, found.jetpack) == (name, None, None)


def test_a_release_that_nobody_knows_yet_and_a_mode_without_a_name(machine):
    found = machine(etc__nv_tegra_release="# R99 (release), REVISION: 1.0\n", etc__nvpmodel_conf=None)
    assert (found.linux, found.jetpack) == ("99.1.0", None)
    found = machine(**{"var__lib__nvpmodel__status": "pmode:0007 fmode:quiet"})
    assert found.power_mode == "7"


def test_a_damaged_release_file_is_no_release(machine):
    found = machine(etc__nv_tegra_release="\0\1 no release", **{"var__lib__nvpmodel__status": "who knows"})
    assert (found.soc, found.linux, found.jetpack, found.power_mode) == ("Orin", None, None, None)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {
            "proc/device-tree/model": "Raspberry Pi 5 Model B\0",
            "proc/device-tree/compatible": "raspberrypi,5-model-b\0",
        },
    ],
    ids=["x86", "Raspberry Pi"],
)
def test_other_machines_are_no_jetson(tmp_path, tree):
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert describe_jetson(tmp_path) is None
