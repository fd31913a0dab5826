"""The import table of the house: which folder may import what, and that the runtime needs none of the heavy libraries.

Ruff cannot say this: it resolves a relative import of runtime/ to `runtime.x`, so banning `import runtime` bans it too.
"""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "runtime": set(),
    "train": {"runtime"},
    "calibration": {"runtime"},
    "compile": {"runtime", "calibration", "train"},
    "benchmarks": {"runtime", "train", "calibration", "compile"},
    "cli": {"runtime", "train", "calibration", "compile", "benchmarks"},
    "models": set(),
}
LIBRARIES = {  # the one file of runtime/ that may load a library, inside a function
    "onnxruntime": "ort.py",
    "openvino": "ov.py",
    "ai_edge_litert": "litert.py",
    "torch": "pt2.py",
    "tensorrt": "tensorrt_api.py",
    "tensorrt_rtx": "tensorrt_api.py",
    "pycuda": "cuda.py",
    "cuda": "cuda_python.py",
    "starlette": "http_app.py",
    "prometheus_client": "http_metrics.py",
    "uvicorn": "http_server.py",
    "cryptography": "signature.py",
    "pyarrow": "arrow.py",
    "ray": "ray_job.py",
}
HEAVY = {
    *("torch", "torchvision", "sklearn", "matplotlib"),
    *("onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "openvino", "ai_edge_litert"),
    *("starlette", "prometheus_client", "uvicorn"),
    *("pyarrow", "ray"),
}
FILES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))


@dataclass(frozen=True)
class Import:
    """One imported module: its absolute name, or how many dots a relative one has; and where it stands."""

    name: str
    dots: int
    where: str  # at the module's "top", in a "function", or for "types" only


def imports(node, where="top"):
    """Yield every import below ``node``."""
    for child in ast.iter_child_nodes(node):
        inside = where
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = "function"
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            inside = "types"
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, 0, where) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            names = [f"quillrt.{a.name}" for a in child.names] if child.module == "quillrt" else [child.module or ""]
            yield from (Import(name, child.level, where) for name in names)
        elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith(("import_module", "__import__")):
            yield from (Import(a.value, 0, where) for a in child.args[:1] if isinstance(a, ast.Constant))
        yield from imports(child, inside)


def violations(folder, file, source):
    """Return what in ``source`` the house forbids to ``folder``/``file``."""
    found = []
    for each in imports(ast.parse(source)):
        top, _, rest = each.name.partition(".")
        if each.dots > 1:
            found.append(f"a relative import leaves {folder}")
        if each.dots:
            continue
        if top in MAY_IMPORT:
            found.append(f"import {each.name} should be quillrt.{each.name}")
        if top == "quillrt" and rest.partition(".")[0] not in {folder, *MAY_IMPORT[folder]}:
            found.append(f"{folder} may not import {each.name}")
        outside = top not in {*sys.stdlib_module_names, "tomllib", "quillrt"}
        if folder == "runtime" and outside and top not in ("numpy", "PIL"):
            if LIBRARIES.get(top) != file:
                found.append(f"{file} may not import {top}")
            elif each.where == "top":
                found.append(f"{top} should be imported inside a function")
        if folder == "compile" and top in ("torch", "torchvision") and file not in ("export.py", "pt2.py"):
            found.append(f"only export.py and pt2.py may import {top}")
        if folder == "calibration" and top in ("torch", "torchvision"):
            found.append(f"calibration may not import {top}")
        if folder == "cli" and each.where == "top" and outside and top not in ("typer", "tomli"):
            found.append(f"{top} should be imported inside a function")
    return found


def test_there_is_a_house_to_check():
    assert {path.parent.name for path in FILES} == set(MAY_IMPORT)
    assert {path.parent.parent for path in FILES} == {ROOT}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_keeps_to_the_table(path):
    assert violations(path.parent.name, path.name, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("runtime/spec.py", "import torch"),
        ("runtime/spec.py", "import typer"),
        ("runtime/spec.py", "from onnx import helper"),
        ("runtime/spec.py", "from quillrt.train.models import build"),
        ("runtime/spec.py", "from quillrt import train"),
        ("runtime/spec.py", "def f():\n    import onnxruntime"),
        ("runtime/spec.py", "import importlib\nonnx = importlib.import_module('onnx')"),
        ("runtime/ort.py", "import onnxruntime"),
        ("runtime/ort.py", "class A:\n    import onnxruntime"),
        ("runtime/ort.py", "def f():\n    import openvino"),
        ("runtime/cuda.py", "try:\n    import pycuda.driver\nexcept ImportError:\n    pass"),
        ("train/models.py", "import runtime"),
        ("train/models.py", "from runtime.spec import ModelSpec"),
        ("train/models.py", "from ..runtime.spec import ModelSpec"),
        ("train/models.py", "from .. import runtime"),
        ("train/models.py", "def f():\n    from quillrt.compile import export"),
        ("calibration/table.py", "from quillrt.train.datasets import load_dataset"),
        ("calibration/table.py", "def f():\n    import torch"),
        ("compile/int8.py", "def f():\n    import torch"),
        ("compile/int8.py", "from quillrt.benchmarks import bench"),
        ("compile/int8.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import quillrt.cli.main"),
        ("benchmarks/bench.py", "import quillrt.cli"),
        ("cli/main.py", "import numpy"),
        ("models/__init__.py", "from quillrt.runtime.bundle import Bundle"),
        ("cli/main.py", "if True:\n    import torch"),
    ],
)
def test_what_breaks_the_table_is_seen(place, source):
    folder, file = place.split("/")

    assert len(violations(folder, file, source)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("runtime/spec.py", "import json\nimport numpy as np\nfrom PIL import Image\nfrom .errors import SpecError"),
        ("runtime/ort.py", "def f():\n    import onnxruntime"),
        ("train/models.py", "import torch\nfrom quillrt.runtime.spec import ModelSpec\nfrom . import config"),
        ("compile/export.py", "import torch\nfrom quillrt.train.checkpoint import Checkpoint"),
        ("cli/main.py", "import typer\nfrom quillrt.cli import device\ndef f():\n    import numpy"),
    ],
)
def test_what_keeps_to_the_table_is_left_alone(place, source):
    folder, file = place.split("/")

    assert violations(folder, file, source) == []


WITHOUT = """
import json, sys
absent, asked = set(json.loads(sys.argv.pop(1))), []

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without(libraries, code, *arguments):
    """Run ``code`` where ``libraries`` cannot be imported; ``asked`` is what was tried all the same."""
    command = [sys.executable, "-c", WITHOUT + code, json.dumps(sorted(libraries)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_runtime_module_can_be_imported_without_the_heavy_libraries():
    code = """
import importlib, pkgutil
import quillrt.runtime
for module in pkgutil.iter_modules(quillrt.runtime.__path__):
    importlib.import_module(f"quillrt.runtime.{module.name}")
    print(module.name)
assert not asked, asked
"""
    modules = run_without(HEAVY | {"pycuda", "cuda"}, code).split()

    assert modules == sorted(path.stem for path in FILES if path.parent.name == "runtime" and path.stem != "__init__")


MAIN = """
from quillrt.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_the_help_of_run_needs_no_heavy_library_and_not_even_numpy():
    code = MAIN + "assert not asked, asked\n"

    assert "--top-k" in run_without(HEAVY | {"pycuda", "cuda", "numpy", "PIL"}, code, "run", "--help")


def test_run_predicts_with_onnxruntime_and_neither_torch_nor_onnx(quadrants_bundle, draw, tmp_path):
    pytest.importorskip("onnxruntime")
    code = MAIN + "assert not asked and 'onnxruntime' in sys.modules, asked\n"

    out = run_without(HEAVY - {"onnxruntime"}, code, "run", quadrants_bundle, draw(tmp_path / "sw.png", 2))

    assert out.split()[1] == "sw"
