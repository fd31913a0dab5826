import os
import stat
from pathlib import Path

import pytest

from quillrt.runtime.files import write_bytes, write_text, written_whole

FULL = Path("/dev/full")  # Linux: every write finds no space


def test_parents_are_made_and_text_is_utf8(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"

    write_text(path, "größe: 28 × 28\n")

    assert path.read_bytes() == "größe: 28 × 28\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"x")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_umask_of_other_threads_is_left_alone(tmp_path, monkeypatch):
    def changed(mask):
        raise AssertionError("other threads' files would be open to all")

    monkeypatch.setattr(os, "umask", changed)

    write_bytes(tmp_path / "file", b"x")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.quill"
    write_bytes(path, b"old")

    def write_half():
        with written_whole(path) as beside:
            beside.write_bytes(b"half of the new")
            raise error

    with pytest.raises(type(error)):
        write_half()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_until_it_is_whole_a_reader_sees_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    with written_whole(path) as beside:
        beside.write_bytes(b"new")
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path):
    (tmp_path / "name").mkdir()

    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "name", b"x")

    assert [p.name for p in tmp_path.iterdir()] == ["name"]


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path):
    write_bytes(tmp_path / "file", b"x")

    with pytest.raises(OSError, match="file"):
        write_bytes(tmp_path / "file" / "below", b"x")


@pytest.mark.skipif(not os.access(FULL, os.W_OK), reason="no /dev/full here")
def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "file.quill"
    with pytest.raises(OSError, match=r"No space left") as caught, written_whole(path), FULL.open("wb", 0) as full:
        full.write(b"x")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
