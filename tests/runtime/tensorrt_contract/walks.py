"""Ways through quillrt's TensorRT code, and what TensorRT answers on them.

A walk needs answers only where an object of the right type would not do: a count, a name, a shape, a failure.
"""

import numpy as np
import pytest

from quillrt.runtime.build_options import BuildOptions, Profile
from quillrt.runtime.errors import BackendUnavailable, BuildError, BundleError, ConfigError
from quillrt.runtime.session import SessionOptions
from quillrt.runtime.trt import TensorRTRTXSession, TensorRTSession
from quillrt.runtime.trt_build import build_engine
from quillrt.runtime.trt_refit import refit

SESSIONS = {cls.family: cls for cls in (TensorRTSession, TensorRTRTXSession)}
RTX_ONLY = {"compute_capabilities": ("7.5", "8.6")}
FULL_ONLY = {"version_compatible": True, "hardware_compatibility": "ampere-plus", "dla_core": 0, "gpu_fallback": True}


def _builder(batch=-1):
    """Answers with which a graph of one image input and one output of logits is built."""

    def build(network, config):
        # As TensorRT does, which calls by position; a first phase has no parent.
        config.progress_monitor.phase_start("Building Engine", None, 1)
        assert config.progress_monitor.step_complete("Building Engine", 0)
        config.progress_monitor.phase_finish("Building Engine")
        return b"plan"

    return {
        "INetworkDefinition.num_inputs": 1,
        "INetworkDefinition.num_outputs": 1,
        "INetworkDefinition.num_layers": 1,
        "ILayer.num_outputs": 1,
        "ITensor.name": "image",
        "ITensor.shape": (batch, 1, 28, 28),
        "Builder.build_serialized_network": build,
        "Builder.num_DLA_cores": 2,
    }


def _engine(stage, batch=-1):
    """Answers of an engine for the stand-ins' model."""
    images, logits = stage.stand_ins.spec.input, stage.stand_ins.spec.output
    modes = stage.real.TensorIOMode
    shapes = {spec.name: (batch, *spec.shape[1:]) for spec in (images, logits)}
    return {
        "ICudaEngine.num_io_tensors": 2,
        "ICudaEngine.get_tensor_name": lambda index: (images.name, logits.name)[index],
        "ICudaEngine.get_tensor_mode": lambda name: modes.INPUT if name == images.name else modes.OUTPUT,
        "ICudaEngine.get_tensor_shape": lambda name: shapes[name],
        "ICudaEngine.get_tensor_dtype": stage.real.DataType.FLOAT,
        "ICudaEngine.get_tensor_profile_shape": lambda name, index: [(n, *shapes[name][1:]) for n in (1, 2, 4)],
        "ICudaEngine.num_optimization_profiles": 2,
        "EngineInspector.get_engine_information": '{"Layers": []}',
        "IRuntimeCache.serialize": b"kernels",
    }


def _build(stage, answers, timing_cache=None, **options):
    stage.perform(answers)
    return build_engine(b"graph", stage.family, BuildOptions(**options), timing_cache)


def _open(stage, answers, **options):
    stage.perform(answers)
    return SESSIONS[stage.family](b"engine", stage.stand_ins.spec, SessionOptions(**options))


def build_with_no_options(stage):
    built = _build(stage, _builder())
    assert built.engine == b"plan"
    assert built.tensorrt_version == stage.real.__version__


def build_with_all_options(stage):
    rtx = stage.family == "tensorrt-rtx"
    common = {"workspace_bytes": 1 << 20, "optimization_level": 5, "tf32": True, "sparsity": True, "refit": True}
    common |= {"strip": True, "max_aux_streams": 2, "verbosity": "layer-names"}
    common["profiles"] = (Profile(), Profile((65, 1, 28, 28), (128, 1, 28, 28), (256, 1, 28, 28)))
    built = _build(stage, _builder(), **common, **(RTX_ONLY if rtx else FULL_ONLY))
    assert built.compute_capabilities == (("7.5", "8.6") if rtx else ("8.0+",))


def build_with_timing_cache(stage):
    if stage.family == "tensorrt-rtx":
        with pytest.raises(ConfigError, match="no use for a timing cache"):
            _build(stage, _builder(), stage.folder / "timing")
        return
    answers = {**_builder(), "ITimingCache.serialize": b"timings", "IBuilderConfig.set_timing_cache": True}
    for _ in range(2):
        _build(stage, answers, stage.folder / "timing")
        assert (stage.folder / "timing").read_bytes() == b"timings"


def build_without_dla(stage):
    if stage.family == "tensorrt":
        with pytest.raises(ConfigError, match="found core 1 of 1"):
            _build(stage, {**_builder(), "Builder.num_DLA_cores": 1}, dla_core=1)


def refit_from_graph(stage):
    stage.perform({"ICudaEngine.serialize_with_config": b"whole"})
    for host_code in (False, True):
        assert refit(b"engine", b"graph", stage.family, host_code=host_code) == b"whole"


def refit_that_lacks_weights(stage):
    stage.perform({"Refitter.refit_cuda_engine": False, "Refitter.get_missing_weights": ["conv1.weight"]})
    with pytest.raises(BuildError, match=r"conv1\.weight"):
        refit(b"engine", b"graph", stage.family)


def build_with_fixed_batch(stage):
    assert _build(stage, _builder(batch=2)).engine == b"plan"


def build_of_unreadable_graph(stage):
    answers = {"OnnxParser.parse": False, "OnnxParser.num_errors": 1, "ParserError.node_name": "conv1"}
    with pytest.raises(BuildError, match=r"at node 'conv1' \(Conv\): no such operator"):
        _build(stage, {**answers, "ParserError.node_operator": "Conv", "ParserError.desc": "no such operator"})


def build_of_refused_graph(stage):
    with pytest.raises(BuildError, match="refused the graph"):
        _build(stage, {**_builder(), "Builder.build_serialized_network": None})


def build_of_refused_batches(stage):
    with pytest.raises(BuildError, match="refused the shapes"):
        _build(stage, {**_builder(), "IBuilderConfig.add_optimization_profile": -1})


def builder_that_does_not_start(stage):
    def refuse(logger):
        logger.log(stage.real.ILogger.Severity.ERROR, "no device")
        raise TypeError("factory function returned nullptr")

    with pytest.raises(BackendUnavailable, match="cannot start its builder: no device"):
        _build(stage, {"Builder.__init__": refuse})


def session_with_any_batch(stage):
    with _open(stage, _engine(stage)) as session:
        assert session.run(np.zeros((6, 1, 4, 4), np.float32)).shape == (6, 3)
        assert session.run_timed(np.zeros((1, 1, 4, 4), np.float32))[0].shape == (1, 3)


def session_with_all_options(stage):
    def profile(name, index):
        return [(n, 1, 4, 4) for n in ((1, 2, 4), (5, 6, 8))[index]]

    answers = {**_engine(stage), "ICudaEngine.get_tensor_profile_shape": profile}
    with _open(stage, answers, cuda_graph=True, host_code=True) as session:
        for _ in range(3):
            assert session.run(np.zeros((7, 1, 4, 4), np.float32)).shape == (7, 3)
        assert session.layers() == ()
        assert session.layer_times(np.zeros((1, 1, 4, 4), np.float32), 2) == ()


def session_with_fixed_batch(stage):
    with _open(stage, _engine(stage, batch=2)) as session:
        assert session.run(np.zeros((3, 1, 4, 4), np.float32)).shape == (3, 3)


def session_over_half_precision(stage):
    with pytest.raises(BundleError, match=r"to be float32 .* found HALF"):
        _open(stage, {**_engine(stage), "ICudaEngine.get_tensor_dtype": stage.real.DataType.HALF})


def session_over_unreadable_engine(stage):
    with pytest.raises(BackendUnavailable, match="cannot load this engine"):
        _open(stage, {"Runtime.deserialize_cuda_engine": None})


def session_out_of_memory(stage):
    with pytest.raises(BackendUnavailable, match="cannot get the memory"):
        _open(stage, {**_engine(stage), "ICudaEngine.create_execution_context": None})


WALKS = [
    *(build_with_no_options, build_with_all_options, build_with_fixed_batch, build_of_unreadable_graph),
    *(build_of_refused_graph, build_of_refused_batches, builder_that_does_not_start),
    *(build_with_timing_cache, build_without_dla, refit_from_graph, refit_that_lacks_weights),
    *(session_with_all_options, session_with_any_batch, session_with_fixed_batch, session_over_half_precision),
    *(session_over_unreadable_engine, session_out_of_memory),
]
