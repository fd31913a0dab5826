"""How a script ends."""

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
