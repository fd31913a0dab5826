import importlib
import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FOLDERS = {"runtime", "train", "calibration", "compile", "benchmarks", "cli", "models"}
PRETRAINED = (".safetensors", ".quill", ".md", ".toml")


@pytest.fixture
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_code_is_a_package_and_nothing_else_is(pyproject):
    with_code = {path.parent.name for path in ROOT.glob("*/*.py")} - {"tests", "build"}
    setuptools = pyproject["tool"]["setuptools"]

    assert with_code == FOLDERS
    assert set(setuptools["packages"]) == {f"quillrt.{folder}" for folder in FOLDERS}
    assert setuptools["package-dir"] == {f"quillrt.{folder}": folder for folder in FOLDERS}


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_every_folder_is_typed_flat_and_says_what_it_is(folder):
    assert (ROOT / folder / "py.typed").is_file()
    assert (ROOT / folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')
    assert not list((ROOT / folder).glob("*/*.py"))  # a folder below would be missing from the package list


def test_the_command_is_a_function_that_exists(pyproject):
    module, function = pyproject["project"]["scripts"]["quillrt"].split(":")

    assert callable(getattr(importlib.import_module(module), function))


def test_every_extra_that_another_names_exists(pyproject):
    extras = pyproject["project"]["optional-dependencies"]
    (everything,) = extras["all"]

    assert set(everything.removeprefix("quillrt[").removesuffix("]").split(",")) <= set(extras)


@pytest.fixture
def installed():
    # What setuptools leaves in a checkout (quillrt.egg-info) looks like a distribution, but has no record of files.
    found = next((each for each in distributions(name="quillrt") if each.read_text("RECORD")), None)
    if found is None:
        pytest.skip("quillrt runs from a plain checkout here, it is not installed")
    if json.loads(found.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        pytest.skip("quillrt is installed editable here")
    return found


def test_the_installed_package_puts_one_name_at_the_top(installed, pyproject):
    files = {path.as_posix() for path in installed.files}
    tops = {file.partition("/")[0] for file in files if not file.startswith("../")}

    assert tops == {"quillrt", f"quillrt-{pyproject['project']['version']}.dist-info"}
    assert [Path(file).name for file in files if file.startswith("../")] == ["quillrt"]  # the command


def test_the_installed_package_holds_every_module_and_its_mark_of_types(installed):
    files = {path.as_posix() for path in installed.files}
    expected = {
        path for folder in FOLDERS for pattern in ("*.py", "py.typed") for path in (ROOT / folder).glob(pattern)
    }

    assert {f"quillrt/{path.parent.name}/{path.name}" for path in expected} <= files


def test_the_installed_package_holds_the_servers_pages(installed):
    pages = [path for pattern in ("*.html", "*.json") for path in (ROOT / "runtime").glob(pattern)]

    assert {path.name for path in pages} == {"page.html", "api.html", "openapi.json"}
    for path in pages:
        assert Path(installed.locate_file(f"quillrt/runtime/{path.name}")).read_bytes() == path.read_bytes()


def test_the_installed_package_holds_the_pretrained_models_byte_for_byte(installed):
    models = [path for path in (ROOT / "models").iterdir() if path.is_file()]

    assert {path.suffix for path in models} <= {".py", ".typed", "", *PRETRAINED}
    assert any(path.name == "__init__.py" for path in models)
    for path in models:
        assert Path(installed.locate_file(f"quillrt/models/{path.name}")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".quill"])
def test_git_takes_the_weights_of_pretrained_models_and_no_others(suffix):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    code = {
        folder: subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", f"{folder}/new{suffix}"]).returncode
        for folder in ("models", "train", "runs/models")
    }

    assert code == {"models": 1, "train": 0, "runs/models": 0}  # 0: it is ignored
