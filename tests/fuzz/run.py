"""Fuzz every reader for a while with atheris: `make fuzz`.

    FUZZ_SECONDS=600 python tests/fuzz/run.py [READER ...]

What must hold for any file: a reader returns or raises a QuillError of one line, within a second of processor time and
500 MiB. What breaks that is kept in ``runs/fuzz/READER/findings``, and the exit code is 1. libFuzzer's clock is that of
the wall, so what it calls slow is read once more, alone, before it counts. The corpus stays and is gone on with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = Path("runs", "fuzz")
_MEMORY = Path("/dev/shm")  # a file system in memory: each input is a file
_PYTHON_MIB = 200  # what the process takes before it reads anything
_TORCH_MIB = 700


def fuzz(name: str, seconds: float, *, heavy: bool) -> tuple[int, list[str]]:
    """Fuzz one reader; return how many inputs it read and what was found."""
    corpus, suspects, findings = (ROOT / name / part for part in ("corpus", "suspects", "findings"))
    for folder in (corpus, suspects, findings):
        folder.mkdir(parents=True, exist_ok=True)
    end, inputs, found = time.monotonic() + seconds, 0, []
    while (left := int(end - time.monotonic())) > 0 and not found:
        options = [
            f"-max_total_time={left}",
            "-timeout=1",
            f"-rss_limit_mb={500 + (_TORCH_MIB if heavy else _PYTHON_MIB)}",
            "-max_len=2000000",
            f"-artifact_prefix={suspects}/",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        command = [sys.executable, FOLDER / "target.py", "fuzz", name, corpus, *options]
        with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:  # libFuzzer leaves all
            surroundings = {**os.environ, "TMPDIR": scratch}
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=surroundings)
        log = done.stdout + done.stderr
        inputs += sum(int(line.split()[-1]) for line in log.splitlines() if "number_of_executed_units" in line)
        kept = list(suspects.iterdir())
        for suspect in kept:
            told = replayed(name, suspect)
            if told["finding"]:
                suspect.replace(findings / suspect.name)
                found.append(f"{findings / suspect.name}: {told}")
            else:
                suspect.unlink()
        if done.returncode and not kept:
            return inputs, [f"the fuzzer itself failed: {log[-2000:]}"]
    return inputs, found


def replayed(name: str, file: Path) -> dict[str, object]:
    """Return what ``file`` does when it is read alone in a fresh process."""
    command = [sys.executable, FOLDER / "target.py", "replay", name, file]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return {"finding": True, "came": "did not end within two minutes"}
    except (ValueError, IndexError):
        return {"finding": True, "came": f"ended the process ({done.returncode}): {done.stderr[-300:]}"}


def main() -> int:
    """Fuzz the readers named, or all, and print a line for each."""
    sys.path.insert(0, str(FOLDER))
    from readers import READERS

    seconds, failed = float(os.environ.get("FUZZ_SECONDS", "600")), False
    for name in sys.argv[1:] or list(READERS):
        inputs, found = fuzz(name, seconds, heavy=READERS[name].heavy)
        failed = failed or bool(found)
        sys.stdout.write(f"{name}: {inputs:,} inputs in {seconds:g} s, {'; '.join(found) or 'nothing found'}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
