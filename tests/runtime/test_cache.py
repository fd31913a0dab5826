import os

import pytest

from quillrt.runtime import cache as module
from quillrt.runtime.cache import Cache, default_folder


class Maker:
    def __init__(self, data=b"engine"):
        self.data, self.calls = data, 0

    def __call__(self):
        self.calls += 1
        return self.data


@pytest.fixture
def maker():
    return Maker()


def test_the_same_ingredients_are_made_once(tmp_path, maker):
    assert [Cache(tmp_path / "new").made(maker, "graph", "1.0") for _ in range(3)] == [b"engine"] * 3
    assert maker.calls == 1


@pytest.mark.parametrize("others", [("graph", "1.1"), ("graph1.0",), ("graph", "1.0", ""), ("1.0", "graph")])
def test_other_ingredients_are_another_thing(tmp_path, maker, others):
    Cache(tmp_path).made(maker, "graph", "1.0")
    assert Cache(tmp_path).made(Maker(b"other"), *others) == b"other"


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch, maker):
    monkeypatch.chdir(tmp_path)
    Cache().made(maker, "a")
    Cache().made(maker, "a")
    assert maker.calls == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]])
def test_damaged_files_are_made_again(tmp_path, damage):
    maker = Maker(bytes(range(100)))
    Cache(tmp_path).made(maker, "a")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert Cache(tmp_path).made(maker, "a") == maker.data
    Cache(tmp_path).made(maker, "a")
    assert maker.calls == 2


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path, maker):
    (tmp_path / "file").write_text("no folder")
    assert Cache(tmp_path / "file" / "below").made(maker, "a") == b"engine"


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 250)  # two files of 132 bytes are too many, for 32 are the digest's
    a, b, cache = Maker(b"a" * 100), Maker(b"b" * 100), Cache(tmp_path)
    cache.made(a, "a")
    for file in tmp_path.iterdir():
        os.utime(file, (0, 0))
    cache.made(b, "b")
    cache.made(b, "b")
    assert (a.calls, b.calls) == (1, 1)
    cache.made(a, "a")
    assert (a.calls, b.calls) == (2, 1)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 250


def test_a_folder_beside_the_files_is_left_alone(monkeypatch, tmp_path, maker):
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    (tmp_path / "engines").mkdir()
    os.utime(tmp_path / "engines", (0, 0))
    Cache(tmp_path).made(maker, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["engines"]


def test_what_is_not_ours_stays(monkeypatch, tmp_path, maker):
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    (tmp_path / "thesis.tar").write_bytes(b"old")
    os.utime(tmp_path / "thesis.tar", (0, 0))
    Cache(tmp_path).made(maker, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tar"]


def test_what_can_be_read_but_not_touched_is_taken(monkeypatch, tmp_path, maker):
    Cache(tmp_path).made(maker, "a")

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(type(tmp_path), "touch", refuse)
    assert Cache(tmp_path).made(maker, "a") == b"engine"
    assert maker.calls == 1


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("QUILLRT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "quillrt"
    monkeypatch.setenv("QUILLRT_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("QUILLRT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "quillrt"
