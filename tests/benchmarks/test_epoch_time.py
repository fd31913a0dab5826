"""The comparison of epochs: what it prints adds up."""

import os
import re
from pathlib import Path

import pytest

from quillrt.benchmarks.epoch_time import CONTESTS, main


@pytest.mark.data
def test_every_contest_has_a_line_and_its_ratio(script):
    root = os.environ.get("QUILLRT_DATA")
    if not root or not Path(root, "MNIST").is_dir():
        pytest.skip("MNIST is not in QUILLRT_DATA")
    done = script(main, "--images", 128, "--rounds", 1, "--threads", 1)
    assert done.exit_code == 0, done.output
    _, counts, *lines = done.stdout.splitlines()
    assert counts.startswith("128 images, batch 64, medians of 1 rounds")
    assert len(lines) == len(CONTESTS)
    for line, contest in zip(lines, CONTESTS, strict=True):
        assert line.startswith(f"{contest.model}, {contest.kind}, ours in ")
        plain, ours, ratio = map(float, re.findall(r"(?:plain|ours|ratio) (\d+\.\d+)", line))
        assert ratio == pytest.approx(plain / ours, abs=0.005 + 0.005 * (1 + ratio) / ours)
