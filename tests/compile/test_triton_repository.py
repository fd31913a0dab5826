"""Versions put into a repository: side by side, and whole or not at all."""

import os
from pathlib import Path

import pytest

from quillrt.compile.triton_repository import add_version
from quillrt.runtime.errors import ConfigError

SHARED = {"config.pbtxt": b"config", "labels.txt": b"a\nb\n", "warmup/000.bin": b"0"}
FIRST, SECOND = {"model.onnx": b"first"}, {"model.onnx": b"second"}


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def repository(tmp_path):
    add_version(tmp_path / "repo", "m", 1, SHARED, FIRST)
    return tmp_path / "repo"


def below(model, files):
    return {f"{model}/{path}": data for path, data in files.items()}


def test_a_first_version_makes_the_folders(repository):
    assert content(repository) == below("m", {**SHARED, "1/model.onnx": b"first"})
    assert [path.name for path in repository.iterdir()] == ["m"]


def test_another_version_goes_beside_it_and_touches_nothing(repository):
    before = {path: path.stat().st_ino for path in repository.rglob("*") if path.is_file()}
    add_version(repository, "m", 2, SHARED, SECOND)

    assert content(repository) == below("m", {**SHARED, "1/model.onnx": b"first", "2/model.onnx": b"second"})
    assert {path: path.stat().st_ino for path in before} == before
    assert [path.name for path in repository.iterdir()] == ["m"]


def test_another_model_goes_beside_it(repository):
    add_version(repository, "n", 1, SHARED, SECOND)
    assert content(repository) == {
        **below("m", {**SHARED, "1/model.onnx": b"first"}),
        **below("n", {**SHARED, "1/model.onnx": b"second"}),
    }


@pytest.mark.parametrize(
    ("version", "shared", "phrase"),
    [
        (1, SHARED, "expected no version 1 in .*/m, found one; give another --version, or --force"),
        (2, {**SHARED, "config.pbtxt": b"other"}, "expected the config.pbtxt that is in .*/m, for all versions share"),
        (2, {**SHARED, "warmup/000.bin": b"1"}, "expected the warmup/000.bin that is in .*/m"),
        (0, SHARED, "expected a --version of 1 or more, found 0"),
    ],
)
def test_nothing_is_replaced_unasked(repository, version, shared, phrase):
    before = content(repository)
    with pytest.raises(ConfigError, match=phrase):
        add_version(repository, "m", version, shared, SECOND)
    assert content(repository) == before


def test_force_replaces_the_version_and_what_differs(repository):
    (repository / "m" / "1" / "stale").write_bytes(b"of the first")
    (repository / "m" / "notes.md").write_bytes(b"the user's own")
    shared = {"config.pbtxt": b"other", "labels.txt": b"a\nb\n", "warmup/001.bin": b"1"}
    add_version(repository, "m", 1, shared, SECOND, force=True)

    assert content(repository) == below("m", {**shared, "notes.md": b"the user's own", "1/model.onnx": b"second"})


@pytest.mark.parametrize("there", [".", "m"])
def test_a_file_in_the_way_is_named(tmp_path, there):
    path = tmp_path / "repo" / there
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a file") if there == "m" else (tmp_path / "repo").write_bytes(b"a file")
    with pytest.raises(ConfigError, match=r"expected a folder at .*, found a file"):
        add_version(tmp_path / "repo", "m", 1, SHARED, FIRST)


def fail_at(monkeypatch, owner, name, call, error):
    """Let the ``call``-th call of a function raise ``error`` instead of doing its work."""
    real, calls = getattr(owner, name), []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", [1, 4])
def test_what_fails_while_writing_leaves_nothing(tmp_path, monkeypatch, call, error):
    fail_at(monkeypatch, os, "fsync", call, error)
    with pytest.raises(type(error)) as found:
        add_version(tmp_path / "new" / "repo", "m", 1, SHARED, FIRST)
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, OSError):
        assert "m/" in found.value.filename


@pytest.mark.parametrize("call", range(1, 7))  # config, warm-up and version, each moved away and replaced
def test_what_fails_while_replacing_puts_all_back(repository, monkeypatch, call):
    before = content(repository)
    shared = {**SHARED, "config.pbtxt": b"other", "warmup/000.bin": b"1"}
    with monkeypatch.context() as patch:
        fail_at(patch, Path, "rename", call, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            add_version(repository, "m", 1, shared, SECOND, force=True)
    assert content(repository) == before
    assert [path.name for path in repository.iterdir()] == ["m"]
