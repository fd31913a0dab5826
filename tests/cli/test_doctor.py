import json
import platform
import sys

import numpy as np

from quillrt.runtime.backends import BACKENDS, why_unavailable


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
