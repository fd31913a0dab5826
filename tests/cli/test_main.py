import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from quillrt.runtime.versions import versions

COMMAND = [sys.executable, "-m", "quillrt.cli"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_version_is_that_of_the_installed_package(quillrt):
    assert quillrt("--version") == (0, f"quillrt {versions('quillrt')['quillrt']}\n", "")


def test_no_verb_shows_the_verbs(quillrt):
    code, out, err = quillrt()

    assert code == 2
    assert all(verb in out + err for verb in ("run", "inspect", "doctor", "compile", "train", "bench"))


def test_an_unknown_verb_is_wrong_usage(quillrt):
    code, out, err = quillrt("fly")

    assert (code, out) == (2, "")
    assert "fly" in err


def test_help_names_every_option_of_a_verb(quillrt):
    code, out, _ = quillrt("run", "-h")

    assert code == 0
    assert all(option in out for option in ("--backend", "--precision", "--top-k", "--json", "--config", "--debug"))


def test_debug_shows_where_an_error_arose():
    plain = subprocess.run([*COMMAND, "inspect", "absent.quill"], capture_output=True, text=True)
    debug = subprocess.run([*COMMAND, "inspect", "absent.quill", "--debug"], capture_output=True, text=True)

    assert (plain.returncode, debug.returncode) == (1, 1)
    assert plain.stderr.count("\n") == 1
    assert "Traceback" in debug.stderr
    assert "bundle.py" in debug.stderr
    assert plain.stderr.removeprefix("quillrt: error: ").strip() in debug.stderr


def test_ctrl_c_is_code_130_without_a_traceback(quadrants_bundle, tmp_path):
    fifo = tmp_path / "image.png"
    os.mkfifo(fifo)
    process = subprocess.Popen([*COMMAND, "run", quadrants_bundle, fifo], stdout=-1, stderr=-1)
    with fifo.open("wb"):  # opens once the verb reads, and keeps it waiting
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


@pytest.mark.parametrize("arguments", [["inspect"], ["inspect", "--json"]])
def test_a_reader_that_goes_away_is_no_error_message(quadrants_bundle, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [*COMMAND, *arguments, quadrants_bundle]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=BUFFERED)
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(quadrants_bundle):
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, "inspect", "--json", quadrants_bundle]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=BUFFERED)

    assert done.returncode == 1
    assert done.stderr.startswith(b"quillrt: error: No space left on device")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_do_not_stop_the_work(quadrants_bundle, tmp_path, closed):
    Image.new("L", (28, 28), "white").save(tmp_path / "blank.png")
    command = shlex.join([*COMMAND, "run", str(quadrants_bundle), str(tmp_path / "blank.png")])
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert done.stdout.startswith(str(tmp_path)) == closed.startswith("2")


def test_a_termination_tidies_up(quillrt, monkeypatch, tmp_path):
    from quillrt.runtime import files

    def terminated(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(files.os, "fsync", terminated)
    code, _, err = quillrt("train", "--per-class", 5, "--epochs", 1, "--output", tmp_path / "net.safetensors", "-q")
    assert (code, err) == (143, "")
    assert not list(tmp_path.iterdir())
