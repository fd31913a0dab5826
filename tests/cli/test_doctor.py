import json
import platform
import sys

import numpy as np
import pytest

from quillrt.runtime import jetson
from quillrt.runtime.backends import BACKENDS, why_unavailable
from quillrt.runtime.jetson import JetPack, Jetson


def test_doctor_names_this_machine_its_packages_and_every_backend(quillrt):
    code, out, err = quillrt("doctor")

    assert (code, err) == (0, "")
    assert platform.machine() in out
    assert np.__version__ in out
    assert all(name in out for name in BACKENDS)


def test_doctor_shows_an_engine_library_that_is_broken(monkeypatch, quillrt, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('made for numpy 1')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)

    code, out, err = quillrt("doctor")

    assert (code, err) == (0, "")
    assert "backend onnxruntime-cpu cannot be loaded: made for numpy 1" in " ".join(out.split())


def test_doctor_as_json_gives_each_backend_its_reason(quillrt):
    code, out, _ = quillrt("doctor", "--json")

    found = json.loads(out)
    assert code == 0
    assert found["python"] == platform.python_version()
    assert found["packages"]["numpy"] == np.__version__
    assert found["backends"] == {name: why_unavailable(name) for name in BACKENDS}


@pytest.mark.parametrize(
    ("jetpack", "said"),
    [
        (JetPack("6.1 or later", "10.3", "12.6", "3.10"), "6.1 or later: TensorRT 10.3, CUDA 12.6, Python 3.10"),
        (JetPack("5", "8.5", "11.4", "3.8"), "quillrt needs TensorRT 10.3 or later, JetPack 6.1"),
        (None, "Jetson Linux 36.4.3"),
    ],
)
def test_doctor_knows_a_jetson_and_what_to_set_before_measuring(monkeypatch, quillrt, jetpack, said):
    board = Jetson("Jetson Orin Nano", "Orin", "36.4.3", jetpack, "2 (MAXN_SUPER)")
    monkeypatch.setattr(jetson, "describe_jetson", lambda: board)
    _, out, _ = quillrt("doctor")
    text = " ".join(out.split())
    assert said in text
    assert "2 (MAXN_SUPER); before measuring: sudo nvpmodel -m N, sudo jetson_clocks" in text
    assert "--system-site-packages" in text
    _, out, _ = quillrt("doctor", "--json")
    assert json.loads(out)["jetson"]["linux"] == "36.4.3"


def test_elsewhere_doctor_speaks_of_no_jetson(monkeypatch, quillrt):
    monkeypatch.setattr(jetson, "describe_jetson", lambda: None)
    assert "nvpmodel" not in quillrt("doctor")[1]
    assert json.loads(quillrt("doctor", "--json")[1])["jetson"] is None
