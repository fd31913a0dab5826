import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime import decoding
from quillrt.runtime.decoding import Decoders, decode
from quillrt.runtime.errors import WorkerError
from quillrt.runtime.images import read_image
from quillrt.runtime.prepare import prepare_file
from quillrt.runtime.preprocessing import Preprocessing, fit_image

RECIPE = Preprocessing(height=8, width=8, denoise=("levels",))


@pytest.fixture
def files(tmp_path):
    """Twelve images of three sizes, one of them cut short, and one that is missing."""
    random = np.random.default_rng(0)
    for n in range(12):
        size = (8, 8, 20, 8 + n)[n % 4]
        Image.fromarray(random.integers(0, 256, (size, 8), np.uint8)).save(tmp_path / f"{n:02}.png")
    (tmp_path / "05.png").write_bytes((tmp_path / "05.png").read_bytes()[:60])
    return [*map(str, sorted(tmp_path.iterdir())), str(tmp_path / "absent.png")]


def fitted_alone(*files):
    return np.stack([fit_image(read_image(Path(file)), RECIPE) for file in files])


def test_readable_files_become_what_they_are_alone_and_the_others_say_why(files):
    found = decode(files, RECIPE, "as-is")

    assert found.ways == [("as-is", "asked for")] * 11
    assert sorted(found.errors) == [5, 12]
    assert "05.png is damaged" in found.errors[5]
    assert "No such file" in found.errors[12]
    alone = fitted_alone(*(file for place, file in enumerate(files) if place not in (5, 12)))
    np.testing.assert_array_equal(found.fitted, alone)


@pytest.mark.parametrize("failing", ["read", "begin"])
def test_whatever_comes_of_one_image_the_others_are_prepared(files, failing, monkeypatch):
    whole, given = getattr(decoding, failing), iter(range(3))

    def odd(*arguments):
        if next(given) == 1:
            raise OverflowError("too large\nto tell")
        return whole(*arguments)

    monkeypatch.setattr(decoding, failing, odd)

    found = decode(files[:3], RECIPE, "as-is")

    assert found.errors == {1: f"expected a whole image, but {files[1]} is damaged: too large to tell; copy it again"}
    np.testing.assert_array_equal(found.fitted, fitted_alone(files[0], files[2]))


@pytest.mark.parametrize("way", ["auto", "photo"])
def test_each_image_is_prepared_in_its_way(files, way):
    found = decode(files, RECIPE, way)

    alone = [prepare_file(Path(file), RECIPE, way) for place, file in enumerate(files) if place not in (5, 12)]
    np.testing.assert_array_equal(found.fitted, np.stack([each.fitted for each in alone]))
    assert found.ways == [each.way for each in alone]


def test_images_come_from_anywhere(files):
    found = decode(["a", "b"], RECIPE, "as-is", lambda name: b"" if name == "a" else Path(files[0]).read_bytes())

    np.testing.assert_array_equal(found.fitted, decode(files[:1], RECIPE, "as-is").fitted)
    assert found.errors == {0: "expected an image, but a is empty (0 bytes); give a PNG or JPEG"}


def test_processes_give_the_same_in_order_and_never_run_far_ahead(files):
    taken = 0

    def batches():
        nonlocal taken
        for start in range(0, 120, 3):
            taken += 1
            yield [files[n % len(files)] for n in range(start, start + 3)]

    with Decoders(2, RECIPE) as decoders:
        for number, found in enumerate(decoders.in_order(batches())):
            assert taken - number <= decoders.window
            expected = decode(found.images, RECIPE, "auto")
            assert found.images == [files[n % len(files)] for n in range(3 * number, 3 * number + 3)]
            assert found.errors == expected.errors
            np.testing.assert_array_equal(found.fitted, expected.fitted)
    assert number == 39


def test_the_processes_hold_no_engine_library_and_end(files):
    pytest.importorskip("onnxruntime")
    with Decoders(1, RECIPE) as decoders:
        list(decoders.in_order([files]))
        worker = decoders._workers[0].process.pid
        loaded = Path(f"/proc/{worker}/maps").read_text()
    assert "numpy" in loaded
    assert not any(library in loaded for library in ("onnxruntime", "openvino", "torch", "libLiteRt"))
    assert not Path(f"/proc/{worker}").exists()


def test_a_killed_process_is_an_error_and_no_hang(files):
    with Decoders(2, RECIPE) as decoders:
        found = decoders.in_order([file] for file in files * 100)
        next(found)
        worker = decoders._workers[0].process.pid
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"expected 2 processes .* but one was ended by SIGKILL at .*png"):
            list(found)


KILLED_AMID_ITS_ANSWER = """import os, signal, struct, sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
connection.recv(), connection.recv()
os.write(connection.fileno(), struct.pack("!i", 100_000) + bytes(50_000))
os.kill(os.getpid(), signal.SIGKILL)"""


def test_a_process_killed_while_it_answers_is_the_same_error(files, monkeypatch):
    monkeypatch.setattr(decoding, "_START", KILLED_AMID_ITS_ANSWER)
    with Decoders(1, RECIPE) as decoders, pytest.raises(WorkerError, match=r"expected 1 processes .* by SIGKILL at "):
        list(decoders.in_order([files]))


ORPHANS = """
import sys
from quillrt.runtime import decoding
from quillrt.runtime.decoding import Decoders
from quillrt.runtime.preprocessing import Preprocessing
if __name__ == "__main__":
    with Decoders(2, Preprocessing()) as decoders:
        next(decoders.in_order([sys.argv[1:]]))
        print(*(worker.process.pid for worker in decoders._workers), flush=True)
        sys.stdin.read()
"""


def test_the_processes_end_with_the_one_that_started_them(files):
    command = [sys.executable, "-c", ORPHANS, files[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        workers = [Path("/proc", pid) for pid in run.stdout.readline().split()]
        run.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(worker.exists() and "Z" not in (worker / "stat").read_text().split()[2] for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
