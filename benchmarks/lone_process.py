"""Run a command and tell what it took, from a process that is itself small: `python -I -S lone_process.py COMMAND ...`.

Linux counts to a child's largest memory what its parent held when it was started, so a parent that has loaded libraries
cannot ask. This one imports nothing but what stands here.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Print exit code, output, seconds by the clock and of processor time, and the largest memory in MB, as JSON."""
    started = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    taken = {
        "code": os.waitstatus_to_exitcode(status),
        "said": said,
        "wall_s": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }
    sys.stdout.write(json.dumps(taken))


if __name__ == "__main__":
    main()
