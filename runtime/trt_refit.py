"""Putting weights into a TensorRT engine that was built without them, or with others."""

from __future__ import annotations

from .errors import BackendUnavailable, BuildError
from .tensorrt_api import load


def refit(engine: bytes, onnx: bytes, family: str) -> bytes:
    """Return ``engine`` with the weights of ``onnx``, the graph it was built from or one of the same shapes.

    Raises:
        BackendUnavailable: TensorRT cannot work here, or the engine is for another device or version.
        BuildError: the graph lacks weights that the engine wants.
    """
    tensorrt = load(family)
    trt = tensorrt.module
    tensorrt.log.clear()
    runtime = tensorrt.create("Runtime")
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
