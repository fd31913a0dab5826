"""What doctor says on a Jetson; tests/runtime/test_jetson.py reads real boards' files."""

import json
import sys
from types import SimpleNamespace

import pytest

from quillrt.cli.jetson import hints
from quillrt.runtime import jetson as boards
from quillrt.runtime import tensorrt_api
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.jetpack import jetpack_of
from quillrt.runtime.jetson import Jetson

MODES = {0: "15W", 1: "25W", 2: "MAXN_SUPER"}
CLOCKS = "before measuring, after each start and each change of mode: sudo jetson_clocks"


def orin(l4t="36.4.3", jetpack="6.2", system_tensorrt="10.3.0.30", power_mode=2, modes=MODES, dla_cores=0):
    return Jetson(
        *("NVIDIA Jetson Orin Nano Developer Kit", ("nvidia,p3767-0005", "nvidia,tegra234"), "tegra234", "8.7"),
        *(dla_cores, l4t, jetpack, system_tensorrt, power_mode, modes),
    )


def advice(tensorrt="10.3.0", **board):
    jetson = orin(**board)
    return hints(jetson, jetpack_of(jetson.l4t, jetson.jetpack), tensorrt)


@pytest.fixture
def on_orin(monkeypatch):
    """Make this machine an Orin Nano at 15 W whose TensorRT this Python does not see."""

    def load(family):
        raise BackendUnavailable(f"{family} needs the package {family}")

    monkeypatch.setattr(boards, "read_jetson", lambda: orin(power_mode=0))
    monkeypatch.setattr(tensorrt_api, "load", load)


def test_doctor_tells_of_the_jetson(quillrt, on_orin):
    code, out, err = quillrt("doctor")

    words = " ".join(out.split())
    assert (code, err) == (0, "")
    assert "board NVIDIA Jetson Orin Nano Developer Kit SoC tegra234, compute capability 8.7" in words
    assert "Jetson Linux (L4T) 36.4.3 JetPack 6.2 JetPack brings CUDA 12.6, TensorRT 10.3.0, Python 3.10" in words
    assert "of the system's Python 10.3.0.30 TensorRT of this Python tensorrt needs the package tensorrt" in words
    assert "DLA cores 0 power mode 0 (15W)" in words
    assert "venv --system-site-packages .venv" in words
    assert "sudo nvpmodel -m 2 (MAXN_SUPER)" in words
    assert CLOCKS in words


def test_doctor_as_json_has_the_same(quillrt, on_orin):
    found = json.loads(quillrt("doctor", "--json")[1])["jetson"]

    assert (found["l4t"], found["jetpack"], found["brings"]["tensorrt"]) == ("36.4.3", "6.2", "10.3.0")
    assert (found["tensorrt"], found["why_no_tensorrt"]) == (None, "tensorrt needs the package tensorrt")
    assert found["power_modes"] == {"0": "15W", "1": "25W", "2": "MAXN_SUPER"}
    assert found["hints"] == advice(tensorrt=None, power_mode=0)


def test_doctor_tells_what_is_not_known(monkeypatch, quillrt):
    board = Jetson(None, (), None, None, None, None, None, None, None, {})
    monkeypatch.setattr(boards, "read_jetson", lambda: board)
    monkeypatch.setattr(tensorrt_api, "load", lambda family: SimpleNamespace(version="10.3.0"))

    words = " ".join(quillrt("doctor")[1].split())

    assert "board not known SoC not known, compute capability not known Jetson Linux (L4T) not known" in words
    assert "power mode not known: sudo nvpmodel -q" in words


@pytest.mark.skipif(sys.platform != "linux", reason="reads this machine")
def test_doctor_says_nothing_of_jetsons_elsewhere(quillrt):
    if boards.read_jetson() is not None:
        pytest.skip("this machine is a Jetson")
    assert "Jetson" not in quillrt("doctor")[1]
    assert "jetson" not in json.loads(quillrt("doctor", "--json")[1])


def test_nothing_but_the_clocks_is_left_on_a_board_that_is_ready():
    assert advice() == [CLOCKS]


@pytest.mark.parametrize(
    ("board", "phrase"),
    [
        ({"tensorrt": None}, "does not see the system's TensorRT 10.3.0.30: make the virtual environment by"),
        ({"tensorrt": None, "system_tensorrt": None}, "is not installed: sudo apt install nvidia-jetpack"),
        ({"tensorrt": "10.13.3"}, "this Python has TensorRT 10.13.3, JetPack's is 10.3.0.30"),
        (
            {"tensorrt": None, "l4t": "35.4.1", "jetpack": "5.1.2", "system_tensorrt": None},
            "JetPack's TensorRT 8.5.2 is older than quillrt needs: use JetPack 6.1 or later",
        ),
        (
            {"tensorrt": "10.16.2", "l4t": "39.2.0", "jetpack": "7.2", "system_tensorrt": "10.16.2.10", "dla_cores": 2},
            "TensorRT 10.16.2 does not use the DLA cores",
        ),
        ({"power_mode": None}, "sudo nvpmodel -m 2 (MAXN_SUPER)"),
        ({"power_mode": 1, "modes": {0: "MAXN", 1: "10W"}}, "sudo nvpmodel -m 0 (MAXN)"),
        ({"modes": {}}, "sudo nvpmodel -p --verbose lists the modes"),
    ],
)
def test_each_thing_to_do_is_a_line(board, phrase):
    first, last = advice(**board)
    assert phrase in first
    assert last == CLOCKS
