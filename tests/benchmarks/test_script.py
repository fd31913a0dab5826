"""How a script ends."""

import os
import subprocess
import sys

import pytest

from quillrt.benchmarks.script import run
from quillrt.runtime.errors import DataError


@pytest.mark.parametrize("error", [DataError("expected a, found b"), OSError("no room")])
def test_a_foreseen_error_is_one_line(monkeypatch, error):
    def main():
        raise error

    monkeypatch.setattr("sys.argv", ["script"])
    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == f"error: {error}"


def test_sigterm_tidies_up(tmp_path):
    """The script lays images out as a benchmark does, and ends itself by the signal."""
    code = """
import os, signal
import numpy as np
from quillrt.benchmarks.rotation import laid_out
from quillrt.benchmarks.script import run

def main() -> None:
    with laid_out(np.zeros((1, 1, 2, 2), np.float32), 3) as files:
        print(files.rotation.exists(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True
    )
    assert (done.stdout, done.returncode) == (b"True\n", 143)
    assert not list(tmp_path.iterdir())
