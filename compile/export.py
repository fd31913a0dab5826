"""From a checkpoint to an FP32 ONNX graph: the only file of this folder that touches torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quillrt.runtime.errors import ExportError

from .names import clean

if TYPE_CHECKING:
    import onnx

    from quillrt.train.checkpoint import Checkpoint

_COLOUR = re.compile(r"\x1b\[\d*m")  # torch writes for terminals
OPSET = 20  # the newest that TensorRT 10.3, JetPack 6's, parses


def export_checkpoint(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Return the network as ONNX, batch dimension dynamic, nodes named by their modules, no trace of this machine.

    Raises:
        ExportError: torch's exporter refuses the network.
    """
    import torch

    spec = checkpoint.spec
    example = torch.zeros(
        2, *(int(d) for d in spec.input.shape[1:] if d is not None)
    )  # two, for one would be specialized
    try:
        with warnings.catch_warnings():
            # What it warns of is its own insides (of a GRU, five times); whether the graph is right, others check.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                checkpoint.module(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.input.name],
                output_names=[spec.output.name],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):  # which the exporter takes for a fault of the network
                raise KeyboardInterrupt from error
            cause = cause.__cause__ or cause.__context__
        what = " ".join(_COLOUR.sub("", str(error)).split())[:300]
        raise ExportError(f"torch {torch.__version__} cannot export {checkpoint.model!r}: {what}") from error
    if program is None:
        raise ExportError(f"expected an ONNX program of {checkpoint.model!r}, but torch's exporter returned none")
    return clean(program.model_proto)


def eager_logits(checkpoint: Checkpoint, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what PyTorch eager on the CPU computes, float32 (N, K), for input float32 (N, C, H, W)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = checkpoint.module()(torch.from_numpy(batch)).numpy()
    return logits


def eager_layers(checkpoint: Checkpoint, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return what each module gives that has none inside, by its name, in the order they run.

    A batch norm stands under the name of the module before it as well: exported, it is folded into that.
    """
    import torch

    module = checkpoint.module()
    found: dict[str, NDArray[np.float32]] = {}
    before = ""

    def hook(name: str, *, norm: bool) -> Callable[[torch.nn.Module, Any, Any], None]:
        def keep(_: torch.nn.Module, __: Any, output: Any) -> None:
            nonlocal before
            values = output[0] if isinstance(output, tuple) else output  # a GRU gives its states, too
            found[name] = values.detach().numpy().copy()  # a ReLU in place would change it
            if norm and before:
                found[before] = found[name]
            before = name

        return keep

    for name, each in module.named_modules():
        if name and not any(each.children()):
            each.register_forward_hook(hook(name, norm=isinstance(each, torch.nn.modules.batchnorm._BatchNorm)))
    with torch.inference_mode():
        module(torch.from_numpy(batch))
    return found
