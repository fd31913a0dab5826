"""`run --output`: many images into a file of rows, also through kills and interrupts."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")


@pytest.fixture
def pictures(tmp_path, draw):
    """Eight images in two folders, and one that is none."""
    for n in range(8):
        (tmp_path / "in" / str(n // 4)).mkdir(parents=True, exist_ok=True)
        draw(tmp_path / "in" / str(n // 4) / f"{n}.png", n % 4)
    (tmp_path / "in" / "1" / "5.png").write_text("dear reader")
    return tmp_path / "in"


@pytest.fixture
def many(tmp_path, draw):
    """Three thousand names of four images."""
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(3000):
        if n < 4:
            draw(folder / f"{n:04}.png", n)
        else:
            os.link(folder / f"{n % 4:04}.png", folder / f"{n:04}.png")
    return folder


def test_json_lines_hold_the_rows_of_run(quillrt, quadrants_bundle, pictures, tmp_path):
    options = ("--top-k", 2, "--min-confidence", 0.999, "--batch-size", 3)
    code, out, err = quillrt("run", quadrants_bundle, pictures, "-o", tmp_path / "out/rows.jsonl", *options)

    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == "1 of 8 images could not be read; their rows say why"
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    files = sorted(pictures.rglob("*.png"))
    assert [row["image"] for row in rows] == [str(file) for file in files]
    bad = rows.pop(5)
    assert (bad["answer"], bad["doubt"], bad["label"], bad["top"]) == (None, "unreadable", None, [])
    assert "5.png is none; give a PNG or JPEG" in bad["error"]
    files.pop(5)
    _, out, _ = quillrt("run", quadrants_bundle, *files, "--json", *options)
    assert rows == [{**found, "error": None} for found in json.loads(out)["predictions"]]
    assert (tmp_path / "out" / "rows.jsonl.toml").read_text().startswith("[run]\n")


def test_csv_and_parquet_hold_the_same(quillrt, quadrants_bundle, pictures, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in ("jsonl", "csv", "parquet"):
        assert quillrt("run", "-q", quadrants_bundle, pictures, "-o", tmp_path / f"rows.{suffix}", "--top-k", 2)[0] == 3

    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == lines
    with (tmp_path / "rows.csv").open(newline="") as file:
        for found, line in zip(csv.DictReader(file), lines, strict=True):
            for name in ("is_character", "unsure", "top"):
                assert found.pop(name) == ("" if (value := line.pop(name)) is None else json.dumps(value))
            assert found == {name: "" if value is None else str(value) for name, value in line.items()}


def test_json_says_how_it_went(quillrt, quadrants_bundle, pictures, tmp_path):
    code, out, _ = quillrt("run", quadrants_bundle, pictures / "0", "-o", tmp_path / "rows.csv", "--json")

    assert code == 0
    assert json.loads(out) == {
        "output": str(tmp_path / "rows.csv"),
        "file": "model.fp32.onnx",
        "backend": "onnxruntime-cpu",
        "images": 4,
        "failed": 0,
    }


def test_a_finished_run_resumed_says_again_what_failed(quillrt, quadrants_bundle, pictures, tmp_path):
    for _ in range(2):
        code, _, err = quillrt("run", quadrants_bundle, pictures, "-o", tmp_path / "rows.jsonl", "--resume")
        assert code == 3
        assert err.splitlines()[-1] == "1 of 8 images could not be read; their rows say why"
    assert "has 8 rows already" in err
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 8


def test_a_result_is_written_over_only_when_asked_for(quillrt, quadrants_bundle, pictures, tmp_path):
    output = tmp_path / "rows.jsonl"
    assert quillrt("run", "-q", quadrants_bundle, pictures / "0", "-o", output)[0] == 0
    before = output.read_bytes()

    code, out, err = quillrt("run", "-q", quadrants_bundle, pictures, "-o", output)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "give --resume, --overwrite or another --output" in err
    assert output.read_bytes() == before
    assert quillrt("run", "-q", quadrants_bundle, pictures, "-o", output, "--overwrite")[0] == 3
    assert len(output.read_text().splitlines()) == 8


def test_to_resume_and_to_overwrite_is_wrong_usage(quillrt, quadrants_bundle, pictures, tmp_path):
    options = ("-o", tmp_path / "rows.jsonl", "--resume", "--overwrite")
    code, _, err = quillrt("run", quadrants_bundle, pictures, *options)

    assert code == 2
    assert "give one of them" in " ".join(err.replace("│", "").split())


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--output", "rows.txt"], "expected an output that ends in .jsonl, .csv, .parquet, found rows.txt"),
        (["--output", "rows.csv", "-"], "found - for stdin"),
        (["--output", "rows.csv", "empty"], "expected images in the folder empty"),
        (["--output", "pictures.csv"], "is a folder"),
        (["--output", "rows.csv", "--resume"], "found top_k 2 there and 1 here"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(
    quillrt, quadrants_bundle, pictures, tmp_path, monkeypatch, options, phrase
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures.csv").mkdir()
    if "--resume" in options:
        quillrt("run", "-q", quadrants_bundle, pictures, "-o", "rows.csv", "--top-k", 2)

    code, out, err = quillrt("run", "-q", quadrants_bundle, pictures, *options)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert phrase in err


@pytest.mark.parametrize("option", [["--resume"], ["--overwrite"], ["--workers", 2]])
def test_options_of_a_file_without_one_are_wrong_usage(quillrt, quadrants_bundle, pictures, option):
    code, _, err = quillrt("run", quadrants_bundle, pictures, *option)

    assert code == 2
    assert "go with --output" in err


def begin(quadrants_bundle, many, output, *options):
    """Start a run in a session of its own and wait until rows are there."""
    command = [sys.executable, "-m", "quillrt.cli", "run", quadrants_bundle, many, "-o", output]
    command += ["--workers", "2", "--batch-size", "1", *options]
    run = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not output.exists() or output.stat().st_size < 2000:
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)
    return run


def workers_of(run):
    """The processes that read images: the children of a run."""
    return [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]


def have_ended(pids):
    """Wait until none of these processes runs; one that nobody has asked for yet is a zombie."""
    deadline = time.monotonic() + 30
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
    return True


def check_resumed(quillrt, quadrants_bundle, many, output):
    whole = output.with_name(f"whole{output.suffix}")
    assert quillrt("run", "-q", quadrants_bundle, many, "-o", whole)[0] == 0
    code, _, err = quillrt("run", quadrants_bundle, many, "-o", output, "--resume")
    assert code == 0
    assert "rows already" in err
    assert output.read_bytes() == whole.read_bytes()


def test_ctrl_c_ends_with_whole_rows_and_no_process_left(quillrt, quadrants_bundle, many, tmp_path):
    run = begin(quadrants_bundle, many, tmp_path / "rows.jsonl")
    workers = workers_of(run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal sends it, to all of them

    _, err = run.communicate(timeout=60)

    assert run.returncode == 130
    assert len(workers) == 2
    assert have_ended(workers)
    text = (tmp_path / "rows.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert text.endswith("\n")
    assert 0 < len(rows) < 3000
    assert err.splitlines()[1:] == [f"interrupted after {len(rows):,} rows; the same command with --resume goes on"]
    check_resumed(quillrt, quadrants_bundle, many, tmp_path / "rows.jsonl")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_after_a_kill_resume_neither_loses_nor_repeats_a_row(quillrt, quadrants_bundle, many, tmp_path, suffix):
    output = tmp_path / f"rows.{suffix}"
    run = begin(quadrants_bundle, many, output)
    workers = workers_of(run)
    run.kill()
    run.communicate()
    assert have_ended(workers)
    with output.open("ab") as file:
        file.write(b'{"image": "torn' if suffix == "jsonl" else b'torn,"')

    check_resumed(quillrt, quadrants_bundle, many, output)


def test_a_killed_worker_is_one_line_and_resume_goes_on(quillrt, quadrants_bundle, many, tmp_path):
    run = begin(quadrants_bundle, many, tmp_path / "rows.jsonl", "-q")
    workers = workers_of(run)
    os.kill(workers[0], signal.SIGKILL)

    out, err = run.communicate(timeout=60)

    assert (run.returncode, out, err.count("\n")) == (1, "", 1)
    assert "expected 2 processes that read images, but one was ended by SIGKILL" in err
    assert have_ended(workers)
    check_resumed(quillrt, quadrants_bundle, many, tmp_path / "rows.jsonl")


def test_a_second_run_is_told_of_the_first(quillrt, quadrants_bundle, many, tmp_path):
    run = begin(quadrants_bundle, many, tmp_path / "rows.jsonl", "-q")
    os.kill(run.pid, signal.SIGSTOP)
    try:
        code, _, err = quillrt("run", "-q", quadrants_bundle, many, "-o", tmp_path / "rows.jsonl", "--resume")
    finally:
        os.kill(run.pid, signal.SIGCONT)
        run.terminate()
        run.communicate()
    assert code == 1
    assert "expected no other run that writes" in err
