"""Two processes under torchrun: one result, one set of files."""

import json
import subprocess
import sys


def test_only_the_first_process_writes_and_tells(tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "quillrt.cli"]
    options = ["train", "--per-class", "5", "--epochs", "1", "--threads", "1", "--json", "-o", "two/model.safetensors"]
    done = subprocess.run(
        [sys.executable, *launch, *options], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] > 0
    assert done.stderr.count("epoch 1/1") == 1
    written = {file.name for file in (tmp_path / "two").iterdir()}
    assert written == {f"model.safetensors{suffix}" for suffix in ("", ".csv", ".png", ".toml")}
