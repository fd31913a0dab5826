"""The contract with full TensorRT: test_contract.py in a process for each release, on the bindings that PyPI has."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tensorrt_contract.bindings import RELEASES, UnavailableError, environment

HERE = Path(__file__).parent
FILES = [HERE / "test_contract.py", HERE / "report.py"]


@pytest.fixture(scope="module")
def play(request, tmp_path_factory):
    """Return a function that plays the contract with a release and returns its report."""

    @cache
    def play(release):
        report = tmp_path_factory.mktemp("report") / "report.json"
        env = {**os.environ, "TENSORRT_CONTRACT_REPORT": str(report)}
        if release != "rtx":
            try:
                env |= environment(release, request.config.cache.mkdir("tensorrt-bindings"))
            except UnavailableError as error:
                pytest.skip(str(error))
            env["TENSORRT_CONTRACT"] = release
        elif importlib.util.find_spec("tensorrt_rtx") is None:
            pytest.skip("needs tensorrt-rtx")
        pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES]
        run = subprocess.run(pytest_, cwd=HERE.parents[2], env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "skipped" not in run.stdout
        return json.loads(report.read_text(encoding="utf-8"))

    return play


@pytest.mark.parametrize("release", RELEASES)
def test_contract_with(play, release):
    assert len(play(release)["reached"]) > 40


def test_walks_reach_all_that_is_used(play):
    """Each statement with a name out of TensorRT's API is run by a walk, with one release that has the name."""
    reports = [play(release) for release in (*RELEASES, "rtx")]
    used, reached = ({use for report in reports for use in report[key]} for key in ("uses", "reached"))
    assert not sorted(used - reached)
