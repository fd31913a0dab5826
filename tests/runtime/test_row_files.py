import json
import multiprocessing
import os
from contextlib import suppress

import pytest

from quillrt.runtime import row_files
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.predict import Prediction
from quillrt.runtime.row_files import open_rows
from quillrt.runtime.rows import Choices, answered, unreadable

IDENTITY = {"bundle": "abc", "top_k": 1}
FILES = [f"{n}.png" for n in range(9)]
SUFFIXES = ["jsonl", "csv", "parquet"]


def row(name):
    if name in ("3.png", "5.png"):
        return unreadable(name, "is empty")
    return answered(Prediction(name, (("7", 0.1 + len(name) / 17),)), Choices())


def run(path, files=FILES, until=None, identity=IDENTITY, **how):
    """Write the rows of ``files`` in batches of two, and be interrupted before ``until``; return what was new."""
    with open_rows(path, identity, **how) as rows:
        left = list(rows.skip_done(iter(files)))
        for start in range(0, len(left), 2):
            if until is not None and rows.count >= until:
                raise KeyboardInterrupt
            rows.append([row(name) for name in left[start : start + 2]])
        rows.finish()
        assert (rows.count, rows.failed) == (len(files), sum(name in ("3.png", "5.png") for name in files))
    return left


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / "out" / f"rows.{request.param}"


@pytest.fixture
def expected(path):
    whole = path.with_name(f"whole{path.suffix}")
    run(whole)
    return whole.read_bytes()


@pytest.mark.parametrize("torn", [0, 1, 7])
def test_after_an_end_anywhere_no_row_is_lost_and_none_is_twice(path, expected, torn):
    growing = path.with_name(path.name + ".rows") if path.suffix == ".parquet" else path
    with pytest.raises(KeyboardInterrupt):
        run(path, until=4)
    whole = growing.read_bytes()
    growing.write_bytes(whole[: len(whole) - torn])

    left = run(path, resume=True)

    assert left == FILES[4 - (torn > 0) :]
    assert path.read_bytes() == expected
    assert not growing.exists() or growing == path


@pytest.mark.parametrize("files", [FILES, ["caf\udce9.png", *FILES]])
def test_nothing_is_left_to_do_after_the_end(path, files):
    run(path, files)
    before = contents(path)

    assert run(path, files, resume=True) == []
    assert contents(path) == before


def contents(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


@pytest.mark.parametrize("until", [None, 4])
def test_rows_that_are_there_are_not_made_again_by_mistake(path, until):
    with suppress(KeyboardInterrupt):
        run(path, until=until)
    before = contents(path)

    with pytest.raises(ConfigError, match="give --resume, --overwrite or another --output"):
        run(path)

    assert contents(path) == before


@pytest.mark.parametrize("until", [None, 4])
def test_they_are_made_again_when_asked_for(path, expected, until):
    with suppress(KeyboardInterrupt):
        run(path, files=["x.png"] * 9, until=until, identity={"bundle": "old"})

    assert run(path, overwrite=True) == FILES
    assert path.read_bytes() == expected
    assert run(path, resume=True) == []


def test_an_end_amid_overwriting_leaves_no_row_of_the_former_run(path, expected, monkeypatch):
    run(path, files=["x.png"] * 9, identity={"bundle": "old"})

    def killed(*_):
        raise KeyboardInterrupt

    for step in ("write_bytes", "RowFile"):
        with monkeypatch.context() as patch:
            patch.setattr(row_files, step, killed)
            with pytest.raises(KeyboardInterrupt):
                run(path, overwrite=True)
    assert run(path, resume=True) == FILES
    assert path.read_bytes() == expected


def test_what_was_cut_in_its_first_row_begins_again(path, expected):
    with pytest.raises(KeyboardInterrupt):
        run(path, until=0)
    growing = path.with_name(path.name + ".rows") if path.suffix == ".parquet" else path
    growing.write_bytes(growing.read_bytes()[:-3])

    assert run(path, resume=True) == FILES
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    ("files", "identity", "phrase"),
    [
        (FILES, {**IDENTITY, "top_k": 2}, "found top_k 1 there and 2 here"),
        (FILES, {**IDENTITY, "bundle": "xyz"}, "found bundle abc there and xyz here"),
        (["0.png", "x.png", *FILES[2:]], IDENTITY, "its row 2 is of 1.png, where they have x.png"),
        (FILES[:3], IDENTITY, "its row 4 is of 3.png, where they have no more"),
    ],
)
def test_rows_of_something_else_are_refused_and_left_alone(path, files, identity, phrase):
    with pytest.raises(KeyboardInterrupt):
        run(path, until=4)
    before = contents(path)

    with pytest.raises(ConfigError, match=phrase):
        run(path, files, identity=identity, resume=True)

    assert contents(path) == before
    assert run(path, resume=True) == FILES[4:]


@pytest.mark.parametrize(("state", "phrase"), [(None, "there is none"), (b"", "it is no JSON")])
def test_rows_without_their_state_are_refused_and_left_alone(path, state, phrase):
    run(path)
    file = row_files.state_of(path)
    file.unlink() if state is None else file.write_bytes(state)
    before = contents(path)

    with pytest.raises(ConfigError, match=rf"expected rows\.\w+\.state beside .*{phrase}.* give --overwrite"):
        run(path, resume=True)

    assert contents(path) == before


def test_resuming_never_writes_the_state(path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(path, until=4)
    monkeypatch.setattr(row_files, "write_bytes", None)

    assert run(path, resume=True) == FILES[4:]


def test_another_header_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "rows.csv"
    run(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some spreadsheets save it
    before = contents(path)

    with pytest.raises(ConfigError, match="its header is another"):
        run(path, resume=True)

    assert contents(path) == before


def test_a_line_that_is_no_row_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    run(path)
    path.write_bytes(path.read_bytes().replace(b'"image"', b'"imago"', 1))

    with pytest.raises(ConfigError, match=r"expected rows in .*rows\.jsonl, but after 0 of them expected image, "):
        run(path, resume=True)


def hold(path, ready, done):
    with open_rows(path, IDENTITY) as rows:
        rows.skip_done(iter(FILES))
        ready.set()
        done.wait()


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_are_kept_apart(tmp_path, resume):
    path, context = tmp_path / "rows.jsonl", multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(path, ready, done))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(ConfigError, match=r"expected no other run that writes .*rows\.jsonl, but there is one"):
            run(path, resume=resume)
    finally:
        done.set()
        other.join()
    assert run(path, resume=True) == FILES


def test_a_full_disk_leaves_whole_rows(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    with open_rows(path, IDENTITY) as rows:
        rows.skip_done(iter(FILES))
        rows.append([row("0.png")])
        before = path.read_bytes()
        os.truncate(path, len(before))

        class Full:
            def __init__(self, file):
                self._file = file

            def __getattr__(self, name):
                return getattr(self._file, name)

            def write(self, data):
                if len(data) <= 20:
                    raise OSError(28, "No space left on device")
                return self._file.write(data[:20])

        monkeypatch.setattr(rows, "_file", Full(rows._file))
        with pytest.raises(OSError, match="No space left") as caught:
            rows.append([row("1.png")])
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.json"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"expected an output that ends in \.jsonl, \.csv, \.parquet"):
        run(tmp_path / name)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"this needs the package pyarrow: pip install 'quillrt\[parquet\]'"):
        run(tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []


def test_parquet_holds_what_json_lines_hold(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    files = [*FILES, "caf\udce9.png"]
    run(tmp_path / "rows.jsonl", files)
    run(tmp_path / "rows.parquet", files)

    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    found = parquet.read_table(tmp_path / "rows.parquet").to_pylist()

    assert found[:-1] == lines[:-1]
    assert found[-1] == {**lines[-1], "image": "caf\\xe9.png"}
    assert row_files.state_of(tmp_path / "rows.parquet").exists()
