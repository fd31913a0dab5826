"""Every reader of files that may come from anyone, with whole files made by code to begin from.

A reader takes the content of a file. It returns or raises a ``QuillError``; whatever else comes out is a finding. What
typer shows as wrong usage of a configuration counts as returning.
"""

from __future__ import annotations

import atexit
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import typer
from PIL import Image

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import entry_for, write_bundle
from quillrt.runtime.confidence import Confidence
from quillrt.runtime.device import Gpu
from quillrt.runtime.images import read_image
from quillrt.runtime.manifest import Manifest, read_manifest
from quillrt.runtime.onnx_bytes import check_self_contained
from quillrt.runtime.precision import Precision
from quillrt.runtime.prepare import PHOTO, prepare_file
from quillrt.runtime.preprocessing import Preprocessing
from quillrt.runtime.spec import character_spec

SPEC = character_spec(("a", "b"), Preprocessing(8, 8, denoise=("levels",)))
_ENGINE = {
    "precision": Precision.INT8,
    "backends": ("tensorrt",),
    "built_for": {
        "tensorrt": "10.3.0",
        "compute_capabilities": ["8.7", "8.0+"],
        "products": {"int8": 4},
        "macs": {"int8": 900},
        "seconds": 12.5,
        "options": {"version_compatible": True, "hardware_compatibility": "ampere-plus", "strip": False},
    },
}
_GRAPH = {
    "precision": Precision.FP32,
    "backends": ("onnxruntime-cpu", "openvino"),
    "typed_for": ("tensorrt",),
    "tools": {"onnx": "1.18"},
    "built_for": {"kernels": {"openvino": {"macs": {"fp32": 9}, "products": {"fp32": 1}, "reformats": 2}}},
    "measured": {"openvino": {"accuracy": 0.5, "n": 8, "agreement": 1.0, "dataset": "digits", "part": "validation"}},
}
_CONFIDENCE = Confidence(
    0.5,
    2.25,
    {
        "n": 9,
        "characters_turned_away": {"share": 0.1, "n": 9},
        "taken_for_characters": {"noise": {"share": 0.5, "n": 4}},
    },
    {"energy": 2.5, "lowest": 0.5, "parts": -0.5, "smooth": 7.0, "thick": -9.0},
)
_REPORT = {"nodes": {"model.onnx": [{"name": "c", "op_type": "Conv", "quantized": True, "reason": "it can"}]}}
_GPU = Gpu("Orin", "8.7", "12.6", 8 << 30)


@dataclass(frozen=True)
class Reader:
    """A reader and files it takes.

    Attributes:
        read: takes a file's content.
        seeds: returns whole files.
        heavy: it needs torch, whose own memory is then not counted.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    heavy: bool = False


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="quillrt-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _file(data: bytes, name: str) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _encoded(kind: str, mode: str = "L", **settings: object) -> bytes:
    content = io.BytesIO()
    levels = np.add.outer(np.arange(12), np.arange(9)).astype(np.uint8) * 10
    Image.fromarray(levels).convert(mode).save(content, kind, **settings)
    return content.getvalue()


def images() -> list[bytes]:
    exif = Image.Exif()
    exif[274] = 6
    frames = [Image.new("L", (9, 12), 100), Image.new("L", (9, 12), 200)]
    return [
        *(_encoded(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")),
        *(_encoded("PNG", mode, exif=exif) for mode in ("RGBA", "LA", "P", "1", "I;16", "RGB")),
        *(_encoded(kind, mode, exif=exif) for kind, mode in (("JPEG", "CMYK"), ("WEBP", "RGB"), ("TIFF", "L"))),
        *(_encoded("TIFF", "RGB", compression=kind) for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        *(_encoded(kind, save_all=True, append_images=frames) for kind in ("GIF", "PNG", "TIFF", "WEBP")),
    ]


def graphs() -> list[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), "w")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    outside = TensorProto(name="o", data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="x")
    return [
        helper.make_model(helper.make_graph(nodes, "g", [], [], tensors)).SerializeToString()
        for tensors in ([tensor], [tensor, outside])
    ]


def bundles() -> list[bytes]:
    def graph_entry(data: bytes) -> object:
        return entry_for(data, "model.onnx", "onnx", **_GRAPH)

    report = entry_for(json.dumps(_REPORT).encode(), "report.json", "report")
    engine = entry_for(b"e", "model.engine", "engine", **_ENGINE)
    found = []
    for graph in (b"\x3a\x00", graphs()[0]):
        path = _folder() / "seed.quill"
        preferred = {"path": "model.onnx", "backend": "openvino"}
        source = {"kind": "onnx", "training": {"dataset": "digits", "epochs": 3}}
        write_bundle(path, SPEC, source, [graph_entry(graph), engine, report], preferred, _CONFIDENCE)
        found.append(path.read_bytes())
    return found


def manifests() -> list[bytes]:
    found = []
    for data in bundles():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found.append(archive.read("manifest.json"))
    return found


def _look_at(manifest: Manifest) -> None:
    """Ask what every verb asks of a manifest."""
    from quillrt.runtime import engine_fit
    from quillrt.runtime.backends import BACKENDS
    from quillrt.runtime.select import buildable, candidates

    bundle = Bundle(Path("m.quill"), manifest, {}, "")
    for backend in BACKENDS:
        candidates(bundle, backend)
        buildable(bundle, backend)
    for entry in manifest.entries:
        if entry.kind == "engine" and entry.backends:
            engine_fit.misfit(entry, "10.3.0", _GPU)
            engine_fit.hardware_compatible(entry)
        engine_fit.cannot_build(entry.precision, _GPU)
    json.dumps(manifest.to_json(), allow_nan=False)


def read_bundle(data: bytes) -> None:
    from quillrt.cli.inspecting import inspect
    from quillrt.cli.model_files import ModelFile

    path = _file(data, "any.quill")
    _look_at(Bundle.open(path).manifest)
    with redirect_stdout(io.StringIO()):
        for options in ({}, {"as_json": True}, {"nodes": True}):
            inspect(ModelFile("any.quill", path), **options)


def tables() -> list[bytes]:
    from quillrt.calibration.table import CalibrationTable, Observed

    table = CalibrationTable(
        method="percentile",
        percentile=99.9,
        ranges={"image": (-0.5, 2.25), "y": (0.0, 3.0)},
        observed={"image": Observed(-0.5, 3.0, (5, 0, 2)), "y": Observed(0.0, 3.5, (1, 1, 1))},
        samples=("0123456789abcdef",),
        dataset="digits",
        model_sha256="ab" * 32,
        preprocessing=SPEC.preprocessing,
        tools={"quillrt": "0.1.0"},
        trained=("y",),
    )
    return [table.to_json().encode()]


def read_table(data: bytes) -> None:
    from quillrt.calibration.table import CalibrationTable

    table = CalibrationTable.load(_file(data, "table.json"))
    CalibrationTable.load(_file(table.to_json().encode(), "again.json"))
    str((table.origin, table.fingerprint))


def caches() -> list[bytes]:
    from quillrt.calibration.formats import to_tensorrt_cache

    return [to_tensorrt_cache({"x": (-1.0, 2.0), "y": (0.0, 3.0), "w": (0.0, 1.0)})]


def flatbuffers() -> list[bytes]:
    from quillrt.calibration.formats import to_onnxruntime

    return [to_onnxruntime({"x": (-1.0, 2.0), "y": (0.0, 3.0), "w": (0.0, 1.0)})]


def _imported(suffix: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        import onnx

        from quillrt.calibration.formats import imported

        imported(_file(data, f"table{suffix}"), onnx.load_from_string(graphs()[0]), SPEC).to_json()

    return read


def configs() -> list[bytes]:
    return [
        b'[run]\nbackend = "openvino"\ntop-k = 3\nmin-confidence = 0.5\nreject = false\nthreads = 2\njson = true\n'
        b'provider-option = ["a=1", "b=2"]\nprecision = "int8"\nbatch-size = 64\nquiet = true\ncache = false\n',
        b"[run]\ntop-k = 1_000\nmin-confidence = 1e-3\n[train]\nepochs = 0x10\n[deploy.triton]\nname = 1979-05-27",
    ]


@cache
def _command() -> Any:
    from quillrt.cli.main import application

    return typer.main.get_command(application("run"))


def read_config(data: bytes) -> None:
    path = _file(data, "any.toml")
    try:
        given = ["run", str(_folder() / "absent.quill"), "x.png", "--config", str(path)]
        _command().main(given, standalone_mode=False)
    except (typer.BadParameter, typer.Exit):
        return
    except Exception as error:
        if type(error).__name__ in _USAGE and type(error).__module__.endswith("click.exceptions"):
            return
        raise


_USAGE = ("BadParameter", "UsageError", "MissingParameter", "BadOptionUsage", "NoSuchOption")


def idx_files() -> list[bytes]:
    plain = b"\x00\x00\x08\x03" + b"\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x03" + bytes(range(6))
    labels = b"\x00\x00\x08\x01\x00\x00\x00\x04abcd"
    return [plain, labels, gzip.compress(plain, mtime=0), gzip.compress(labels, mtime=0)]


def read_idx_file(data: bytes) -> None:
    from quillrt.runtime.errors import DataError
    from quillrt.train.idx import read_idx

    path = _file(data, "any-ubyte")
    try:
        read_idx(path, 3)
    except DataError:
        read_idx(path, 1)


def _checkpoint() -> object:
    from quillrt.train.checkpoint import Checkpoint
    from quillrt.train.models import build_model
    from quillrt.train.seeding import seeded

    with seeded(0):
        weights = build_model("quillnet", 2, 8, 8).state_dict()
    return Checkpoint.of("quillnet", SPEC, weights, {"dataset": "digits"})


def checkpoints() -> list[bytes]:
    from quillrt.train.checkpoint import save_checkpoint

    path = _folder() / "seed.safetensors"
    save_checkpoint(path, _checkpoint())
    return [path.read_bytes()]


def read_checkpoint(data: bytes) -> None:
    from quillrt.train.checkpoint import load_checkpoint

    load_checkpoint(_file(data, "any.safetensors"))


def pths() -> list[bytes]:
    import torch

    weights = _checkpoint().weights
    found = []
    for content, settings in (
        (weights, {}),
        ({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "epoch": 3}, {}),
        (weights, {"_use_new_zipfile_serialization": False}),
    ):
        file = io.BytesIO()
        torch.save(content, file, **settings)
        found.append(file.getvalue())
    return found


def read_pth(data: bytes) -> None:
    from quillrt.train.pth import load_pth

    load_pth(_file(data, "any.pth"), "quillnet", SPEC)


def results() -> list[bytes]:
    example = Path(__file__).parents[2] / "benchmarks" / "results" / "full-quillnet.json"
    result = json.loads(example.read_text(encoding="utf-8"))
    result["rows"] = [row for row in result["rows"] if row["backend"] in ("eager", "tensorrt")]
    result["winners"] = []
    result["settings"]["images_sha256"] = "0" * 64
    times = dict.fromkeys(("h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms"), 0.1)
    for row in result["rows"]:
        if row["measured"]:
            row["measured"]["device_ms"] = times
            accuracy = row["measured"]["accuracy"]
            accuracy["wrong"] = list(range(accuracy["images"] - accuracy["right"]))
            row["measured"]["layers"] = [{"name": "c", "kind": "Conv", "datatype": "fp32", "nodes": ["c"], "ms": 0.1}]
            for each in (row["measured"], row["measured"]["metric"]):
                each["rounds"] = each["rounds"][:2]
    return [json.dumps(result).encode()]


def read_result(data: bytes) -> None:
    from quillrt.benchmarks.columns import to_csv
    from quillrt.benchmarks.comparison import compare
    from quillrt.benchmarks.comparison_machine import obstacles, remarks
    from quillrt.benchmarks.html_report import to_html
    from quillrt.benchmarks.markdown_report import to_markdown
    from quillrt.benchmarks.stored import load_result

    found = load_result(_file(data, "result.json"))
    for form in (to_html, to_markdown, to_csv):
        form({"result": found})
    json.dumps(compare(found, found).to_json(), allow_nan=False)
    str((obstacles(found, found), remarks(found, found)))


READERS = {
    "onnx": Reader(check_self_contained, graphs),
    "bundle": Reader(read_bundle, bundles),
    "manifest": Reader(lambda data: _look_at(read_manifest(data)), manifests),
    "image": Reader(read_image, images),
    "photograph": Reader(lambda data: prepare_file(data, SPEC.preprocessing, PHOTO), images),
    "table": Reader(read_table, tables),
    "cache": Reader(_imported(".cache"), caches),
    "flatbuffers": Reader(_imported(".flatbuffers"), flatbuffers),
    "config": Reader(read_config, configs),
    "result": Reader(read_result, results),
    "idx": Reader(read_idx_file, idx_files),
    "checkpoint": Reader(read_checkpoint, checkpoints, heavy=True),
    "pth": Reader(read_pth, pths, heavy=True),
}
