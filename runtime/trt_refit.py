"""Putting weights into a TensorRT engine that was built without them, or with others."""

from __future__ import annotations

from .cuda import open_cuda
from .errors import BackendUnavailable, BuildError
from .tensorrt_api import TensorRT, load


def refit(engine: bytes, onnx: bytes, family: str, device: int = 0, *, host_code: bool = False) -> bytes:
    """Return ``engine`` with the weights of ``onnx``, the graph it was built from or one of the same shapes.

    Args:
        engine: a stripped or refittable one.
        onnx: the graph.
        family: of the engine.
        device: index of the GPU it is for.
        host_code: load an engine that holds code for the processor, of whoever made it.

    Raises:
        BackendUnavailable: TensorRT cannot work here, or the engine is for another device or version.
        BuildError: the graph lacks weights that the engine wants.
    """
    tensorrt = load(family)
    with open_cuda(device).current():
        return _refit(tensorrt, engine, onnx, host_code=host_code)


def _refit(tensorrt: TensorRT, engine: bytes, onnx: bytes, *, host_code: bool) -> bytes:
    trt = tensorrt.module
    tensorrt.log.clear()
    runtime = tensorrt.create("Runtime")
    if host_code:
        runtime.engine_host_code_allowed = True
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise BackendUnavailable(f"{tensorrt} cannot load this engine, run quillrt build: {tensorrt.log.last_error}")
    refitter = trt.Refitter(loaded, tensorrt.logger)
    parser = trt.OnnxParserRefitter(refitter, tensorrt.logger)
    if not parser.refit_from_bytes(onnx) or not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights()) or tensorrt.log.last_error
        raise BuildError(f"{tensorrt} cannot put the graph's weights into the engine: {missing}; build it again")
    whole = loaded.create_serialization_config()
    whole.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(loaded.serialize_with_config(whole))
