import pytest

from quillrt.benchmarks import environment
from quillrt.benchmarks.jetson_clocks import clocks_line, power_and_clocks

# As an Orin Nano lays them out (Jetson Linux 36): the clocks of the GPU are free, those of the decoder fixed.
ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/15480000.nvdec/cur_freq": "793600000\n",
    "sys/class/devfreq/15480000.nvdec/min_freq": "793600000\n",
    "sys/class/devfreq/15480000.nvdec/max_freq": "793600000\n",
}


@pytest.fixture
def board(tmp_path):
    def board(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return board


def test_mode_and_clocks_of_a_jetson(board):
    found = power_and_clocks(board(ORIN_NANO))
    assert (found["l4t"], found["power_mode"], found["power_mode_name"]) == ("36.4.3", 2, "MAXN_SUPER")
    assert found["clocks"]["17000000.gpu"] == {
        "governor": "nvhost_podgov",
        "cur_freq": 306_000_000,
        "min_freq": 306_000_000,
        "max_freq": 1_020_000_000,
    }
    assert found["clocks"]["15480000.nvdec"]["governor"] is None
    assert clocks_line(found) == "power mode MAXN_SUPER, 17000000.gpu 306 MHz (306 to 1020)"


def test_clocks_that_are_fixed_are_said_to_be(board):
    fixed = {
        **ORIN_NANO,
        **dict.fromkeys([f"sys/class/devfreq/17000000.gpu/{k}_freq" for k in ("cur", "min")], "1020000000"),
    }
    assert clocks_line(power_and_clocks(board(fixed))) == "power mode MAXN_SUPER, 17000000.gpu 1020 MHz (fixed)"


def test_what_a_jetson_does_not_show_is_said(board):
    found = power_and_clocks(board({"proc/device-tree/compatible": "nvidia,tegra234\0"}))
    assert (found["power_mode"], found["clocks"]) == (None, {})
    assert clocks_line(found) == "power mode unknown"


def test_other_machines_have_none(tmp_path):
    assert power_and_clocks(tmp_path) is None


def test_a_benchmark_on_a_jetson_says_them_beside_the_machine(board, monkeypatch):
    facts = power_and_clocks(board(ORIN_NANO))
    monkeypatch.setattr(environment, "power_and_clocks", lambda: facts)
    described = environment.describe()
    assert described["jetson"] == facts
    assert "power mode MAXN_SUPER" in environment.hardware_line(described)
    monkeypatch.setattr(environment, "power_and_clocks", lambda: None)
    assert "power mode" not in environment.hardware_line(environment.describe())
