import pytest

from quillrt.runtime import pretrained
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.pretrained import find, names


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Two models, one of them without its bundle, and what belongs to none."""
    for name in ("letters.toml", "digits.toml", "digits.quill", "digits.md", "__init__.py", "notes.md"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return tmp_path


def test_a_model_is_what_has_a_recipe(folder):
    assert names() == ("digits", "letters")


@pytest.mark.parametrize("suffix", [".quill", ".md", ".toml"])
def test_a_file_is_found_by_name_and_suffix(folder, suffix):
    assert find("digits", suffix).read_text() == f"digits{suffix}"


@pytest.mark.parametrize("name", ["didgits", "notes", "", "../digits", "digits.toml"])
def test_an_unknown_name_lists_the_known_ones(folder, name):
    with pytest.raises(ConfigError, match=r"out of digits, letters; found "):
        find(name, ".md")


def test_without_models_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "none")

    assert names() == ()
    with pytest.raises(ConfigError, match=r"this install has no models; found 'digits'"):
        find("digits", ".quill")


def test_a_file_that_the_install_lacks_is_named(folder):
    with pytest.raises(ConfigError, match=r"the file letters\.quill in .* this install lacks it"):
        find("letters", ".quill")


def test_the_models_lie_beside_the_runtime():
    assert (pretrained.FOLDER / "__init__.py").read_text(encoding="utf-8").startswith('"""Pretrained models')
