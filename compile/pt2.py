"""From a checkpoint to PyTorch programs for a device that has PyTorch: torch.export, and AOTInductor for this CPU."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quillrt.runtime.bundle_writer import entry_for
from quillrt.runtime.errors import BackendUnavailable, BuildError, ExportError
from quillrt.runtime.precision import Precision
from quillrt.runtime.pt2 import built_here
from quillrt.runtime.versions import versions

from .source import Source

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from quillrt.train.checkpoint import Checkpoint

    from .graphs import File

TARGET = "pytorch"
AOT_FILE = "model.fp32.aotinductor.pt2"
_SOURCES = (".cpp", ".h")  # Inductor packs them beside the library, with the paths of this machine in them


def torch_files(source: Source) -> tuple[list[File], str]:
    """Return the exported program and, where a C++ compiler is there, its AOTInductor package for this CPU.

    Returns:
        The files, and why there is no package; empty if there is one.

    Raises:
        ExportError: the source is no checkpoint, or torch's exporter refuses the network.
        BuildError: the compiler is there, but fails.
    """
    if source.checkpoint is None:
        raise ExportError(
            "expected a checkpoint (.safetensors) for --target pytorch, found an ONNX file, which holds no PyTorch "
            "network; give the checkpoint or leave this target out"
        )
    program = export_program(source.checkpoint)
    facts: dict[str, Any] = {"precision": Precision.FP32, "tools": versions("quillrt", "torch")}
    files = [entry_for(saved(program), "model.fp32.pt2", "program", backends=("pytorch",), **facts)]
    try:
        package = compiled(program)
    except BackendUnavailable as error:
        return files, str(error)
    facts["built_for"] = built_here()
    return [*files, entry_for(package, AOT_FILE, "engine", backends=("pytorch-aot",), **facts)], ""


def export_program(checkpoint: Checkpoint) -> ExportedProgram:
    """Return the network, batch dimension dynamic, without the stack traces that name this machine's folders.

    Raises:
        ExportError: torch's exporter refuses the network.
    """
    import torch

    size = [int(d) for d in checkpoint.spec.input.shape[1:] if d is not None]
    example = torch.zeros(2, *size)  # two, for one would be specialized
    try:
        with torch.no_grad():
            program = torch.export.export(
                checkpoint.module(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
    except (RuntimeError, ValueError) as error:  # torch._dynamo's errors are RuntimeErrors
        raise ExportError(f"torch.export cannot export {checkpoint.model!r}: {_line(error)}") from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def saved(program: ExportedProgram) -> bytes:
    """Return the bytes of a ``.pt2`` file."""
    import torch

    buffer = BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def compiled(program: ExportedProgram) -> bytes:
    """Return an AOTInductor package without its C++ sources and without the names of this machine's folders.

    Raises:
        BackendUnavailable: the compiler or Python's headers are missing.
        BuildError: the compiler fails.
    """
    import torch
    from torch._inductor.utils import fresh_inductor_cache

    from quillrt.train.devices import check_compiler

    check_compiler("cpu")
    with tempfile.TemporaryDirectory(prefix="quillrt-") as folder, fresh_inductor_cache():
        path = Path(folder, "model.pt2")
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        except RuntimeError as error:  # Inductor's are RuntimeErrors
            raise BuildError(
                f"AOTInductor cannot compile the network: {_line(error)}; leave --target pytorch out"
            ) from error
        folders = (os.environ["TORCHINDUCTOR_CACHE_DIR"], str(Path(torch.__file__).parents[1]), folder)
        return _anonymous(path.read_bytes(), folders)


def _anonymous(package: bytes, folders: Sequence[str]) -> bytes:
    """Return the package without sources, ``folders`` overwritten in the text of its library's assertions.

    What stands there instead is as long and names the folder it runs in: ``./////``.
    """
    kept = BytesIO()
    with zipfile.ZipFile(BytesIO(package)) as before, zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as after:
        for info in before.infolist():
            if not info.filename.endswith(_SOURCES):
                data = before.read(info)
                for name in map(os.fsencode, folders):
                    data = data.replace(name, b".".ljust(len(name), b"/"))
                after.writestr(zipfile.ZipInfo(info.filename), data)
    return kept.getvalue()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
